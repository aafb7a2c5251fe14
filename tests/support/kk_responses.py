"""Hand-written responses to the puzzle of Zoey, a knight, Oliver, a knave, and Mary-Ann, a knight, with rewards.

The prompt has opened <think>. Rewards: 3 right, -0.5 wrong, -1 unreadable, -3 in a wrong format.
"""

RIGHT = "(1) Zoey is a knight\n(2) Oliver is a knave\n(3) Mary-Ann is a knight"
WRONG = "(1) Zoey is a knave\n(2) Oliver is a knave\n(3) Mary-Ann is a knight"


def answered(answer: str) -> str:
    """A well-formed response with this answer."""
    return f"Suppose Zoey lies. Then ... </think><answer>{answer}</answer>"


RESPONSES: list[tuple[str, float]] = [
    # right, however it is worded
    (answered(RIGHT), 3),
    (answered("\n" + RIGHT + "\n"), 3),
    (answered(RIGHT) + "<|im_end|>", 3),
    (answered(RIGHT) + "\n\n<|endoftext|>", 3),
    (answered("Zoey is a knight, Oliver is a knave, Mary-Ann is a knight"), 3),
    (answered("Zoey is a knight. Oliver is a knave. Mary-Ann is a knight."), 3),
    (answered("Mary-Ann is a knight; Oliver is a knave; Zoey is a knight"), 3),
    (answered("ZOEY IS A KNIGHT\nOLIVER IS A KNAVE\nMARY-ANN IS A KNIGHT"), 3),
    (answered("Zoey: knight\nOliver: knave\nMary-Ann: knight"), 3),
    (answered("Zoey = knight, Oliver = knave, Mary-Ann = knight"), 3),
    (answered("- **Zoey** is a **knight**\n- **Oliver** is a **knave**\n- **Mary-Ann** is a **knight**"), 3),
    (answered("1. Zoey is the knight\n2. Oliver is the knave\n3. Mary-Ann is the knight"), 3),
    (answered("Zoey is knight , Oliver is knave , Mary-Ann is knight"), 3),
    (answered("Zoey - knight\nOliver - knave\nMary-Ann - knight"), 3),
    ("</think><answer>" + RIGHT + "</answer>", 3),
    ("so\n</think>\n \n<answer>\n" + RIGHT + "\n</answer>\n", 3),
    ("<knight> and knave </think> words between <answer>" + RIGHT + "</answer> and after", 3),
    # wrong
    (answered(WRONG), -0.5),
    (answered("Zoey is a knave, Oliver is a knight, Mary-Ann is a knave"), -0.5),
    (answered("Zoey is a knight, Oliver is a knight, Mary-Ann is a knight"), -0.5),
    (answered("Zoey is a knave, Oliver is a knave, Mary-Ann is a knave"), -0.5),
    (answered("Oliver: knight, Zoey: knight, Mary-Ann: knave"), -0.5),
    (f"I am sure that {RIGHT}. </think><answer>{WRONG}</answer>", -0.5),
    # well-formed, but it does not say who is what
    (answered(""), -1),
    (answered("   \n "), -1),
    (answered("I do not know"), -1),
    (answered("42"), -1),
    (answered("(1) Zoey is a knight"), -1),
    (answered("(1) Zoey is a knight\n(2) Oliver is a knave"), -1),
    (answered("knight, knave, knight"), -1),
    (answered("Zoey and Mary-Ann are knights, Oliver is a knave"), -1),
    (answered("Zoey is a knight or knave, Oliver is a knave, Mary-Ann is a knight"), -1),
    (answered(RIGHT + "\n" + WRONG), -1),
    (answered(RIGHT + "\n(1) Zoey is a knave"), -1),
    (answered(RIGHT + "\n(4) Bob is a knight"), -1),
    (answered("Zoey is a knight\nZoey is a knight\nMary-Ann is a knight"), -1),
    (answered("Zoey is not a knave, Oliver is a knave, Mary-Ann is a knight"), -1),
    (answered("Zoey is not a knight, Oliver is a knave, Mary-Ann is a knight"), -1),
    (answered("Zoey is a liar, Oliver is a knave, Mary-Ann is a knight"), -1),
    (answered("Joey is a knight, Oliver is a knave, Mary-Ann is a knight"), -1),
    (answered("AZoey is a knight, Oliver is a knave, Mary-Ann is a knight"), -1),
    (answered("(1) ... is a knight\n(2) ... is a knave\n(3) ... is a knight"), -1),
    (answered("Zoey is a knight\nOliver is a knave\nMary Ann is a knight"), -1),
    (answered("Everybody is a knight"), -1),
    (answered("knight " * 10_000), -1),
    (answered(RIGHT + " " * 100_000), 3),
    (answered("Zoey " * 3_000 + "is a knight"), -1),
    (answered("Zoey is a knightOliver is a knaveMary-Ann is a knight"), -1),
    (answered(RIGHT.replace("knight", "кnight")), -1),
    (answered("\x00\ud800"), -1),
    # in a wrong format
    ("", -3),
    (RIGHT, -3),
    (f"<answer>{RIGHT}</answer>", -3),
    (f"<think>again</think><answer>{RIGHT}</answer>", -3),
    (f"so </think></think><answer>{RIGHT}</answer>", -3),
    (f"so </think><answer>{RIGHT}", -3),
    (f"so </think>{RIGHT}</answer>", -3),
    (f"so <answer>{RIGHT}</answer></think>", -3),
    (f"so </think></answer>{RIGHT}<answer>", -3),
    (f"so </think><answer>{WRONG}</answer><answer>{RIGHT}</answer>", -3),
    (f"so </think><answer><answer>{RIGHT}</answer></answer>", -3),
    (f"so </THINK><ANSWER>{RIGHT}</ANSWER>", -3),
    (f"so </think>< answer>{RIGHT}</answer>", -3),
    ("<answer>" * 50_000, -3),
    ("</think>" + "<answer></answer>" * 20_000, -3),
]
