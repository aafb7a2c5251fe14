"""Knights and knaves: one solution each, splits that share nothing, verdicts, both forms."""

import hashlib
import json
import random
import re
import time
from collections import Counter
from itertools import islice, permutations

import pytest
from kk_brute_force import all_solutions
from kk_responses import RESPONSES, RIGHT

from openrlhf_ktae.reward.rollouts import check_labels
from openrlhf_ktae.tasks.knights_and_knaves import Task, worded
from openrlhf_ktae.tasks.knights_and_knaves.puzzles import Puzzle, puzzles, random_statement, solutions, truth
from openrlhf_ktae.tasks.knights_and_knaves.verifier import UNREADABLE, decode_label, verdict
from openrlhf_ktae.tasks.knights_and_knaves.wording import sentence
from openrlhf_ktae.tasks.splits import split_of
from openrlhf_ktae.tasks.tiny_model import make_tokenizer

WORDED = Task.Options(form="worded", people=(2, 3), depth=1, train_problems=60, evaluation_problems=40)


def made(people: int, depth: int, number: int, split="train", seed=0) -> list[Puzzle]:
    return list(islice(puzzles(split, people, depth, seed), number))


def test_the_prompt_is_letter_by_letter_that_of_the_published_files():
    """The digest of the column ``prompt`` of all 5,000 rows of the AR and Lopti authors' files, the quiz taken out."""
    digest = hashlib.sha256(Task.template.render("{q}").encode()).hexdigest()
    assert digest == "c337e4327557731d1466e5026557201f251e0f207289f4c44171d9a1b558ae79"


@pytest.mark.parametrize(
    ("people", "number"), [(2, 2500), (3, 2500), (4, 2000), (5, 1500), (6, 800), (7, 500), (8, 200)]
)
def test_every_one_of_10000_puzzles_has_exactly_one_solution(people, number):
    for puzzle in made(people, 2, number):
        assert all_solutions(puzzle.statements) == [puzzle.solution]


def test_the_solver_finds_what_trying_everything_finds():
    rng = random.Random(1)
    counts = set()
    for _ in range(1500):
        people = rng.randint(2, 5)
        statements = [random_statement(rng, people, speaker, 3) for speaker in range(people)]
        expected = all_solutions(statements)
        assert solutions(statements, most=32) == expected
        assert solutions(statements) == expected[:2]
        counts.add(min(len(expected), 3))
    assert counts == {0, 1, 2, 3}


def test_a_statement_is_settled_as_soon_as_its_parts_allow():
    knight, knave, unknown = ("telling-truth", 0), ("lying", 0), ("telling-truth", 1)
    roles = (True, None)
    assert truth(("or", knight, unknown), roles) is True and truth(("and", unknown, knave), roles) is False
    assert truth(("->", knave, unknown), roles) is True and truth(("->", knight, unknown), roles) is None
    assert truth(("<=>", knight, unknown), roles) is None and truth(("not", unknown), roles) is None
    with pytest.raises(ValueError, match=r"statement: got 'xor', expected one of telling-truth, lying, not"):
        truth(("xor", knight, knave), roles)


def test_splits_are_disjoint_whoever_is_who():
    def renamed(said, order):
        parts = said[1:]
        return (said[0], *(order[part] if isinstance(part, int) else renamed(part, order) for part in parts))

    for split in ("warmup", "train", "evaluation"):
        for puzzle in made(3, 2, 60, split):
            for order in permutations(range(3)):
                back = [order.index(person) for person in range(3)]
                moved = Puzzle(
                    tuple(renamed(puzzle.statements[back[i]], order) for i in range(3)),
                    tuple(puzzle.solution[back[i]] for i in range(3)),
                )
                assert all_solutions(moved.statements) == [moved.solution]
                assert split_of(moved.key) == split
    swapped = Puzzle((("and", ("lying", 1), ("lying", 0)), ("telling-truth", 0)), (False, False))
    assert Puzzle((("and", ("lying", 0), ("lying", 1)), ("telling-truth", 0)), (False, False)).key == swapped.key


def test_sentences_are_read_without_doubt():
    said = ("->", ("not", ("lying", 0)), ("<=>", ("telling-truth", 1), ("not", ("or", ("lying", 0), ("lying", 1)))))
    assert sentence(said, ["Zoey", "Jack"]) == (
        "if Zoey is not a knave then (Jack is a knight if and only if "
        "(it is not the case that (Zoey is a knave or Jack is a knave)))"
    )


def test_there_are_sixty_responses_and_each_gets_the_published_reward():
    assert len(RESPONSES) >= 60
    task, reference = Task(Task.Options()), decode_label(RIGHT)
    start = time.monotonic()
    verdicts = task.verdicts([(response, reference) for response, _ in RESPONSES])
    assert time.monotonic() - start < 1
    found = [(response[:90], task.reward(verdict)) for (response, _), verdict in zip(RESPONSES, verdicts, strict=True)]
    assert found == [(response[:90], reward) for response, reward in RESPONSES]
    # The score is no reward: 1 for the right answer, 0 for everything else.
    assert [verdict.correct for verdict in verdicts] == [reward == 3 for _, reward in RESPONSES]


def test_each_part_of_the_reward_is_an_option():
    options = Task.Options(formatted=0.5, unformatted=-4, right=7, wrong=-2, unreadable=-3)
    responses = [f"</think><answer>{a}</answer>" for a in (RIGHT, RIGHT.replace("knave", "knight"), "?")] + ["?"]
    verdicts = Task(options).verdicts([(response, decode_label(RIGHT)) for response in responses])
    assert [Task(options).reward(verdict) for verdict in verdicts] == [7.5, -1.5, -2.5, -7]
    assert verdicts[2].reason == UNREADABLE


def test_a_response_that_opens_its_own_thinking():
    response = f"<think>so</think><answer>{RIGHT}</answer>"
    assert not verdict(response, decode_label(RIGHT)).formatted
    assert verdict(response, decode_label(RIGHT), thinking_is_open=False).correct
    assert Task(Task.Options(thinking_is_open=False)).verdicts([(response, decode_label(RIGHT))])[0].correct


@pytest.mark.parametrize(
    "label", [None, "", "Zoey is a knight", "(1) Zoey is a saint", "(1) Zoey is a knight\n(2) Zoey is a knave", 3, "42"]
)
def test_other_labels_are_refused(label):
    with pytest.raises(ValueError, match=r"label: got .* expected a line `\(1\) Zoey is a knight`"):
        decode_label(label)


def test_prompt_sets_are_the_same_every_time_and_say_how_many_people_there_are():
    options = Task.Options(train_problems=30, evaluation_problems=10)
    sets = [Task(options).prompt_sets() for _ in range(2)]
    rows, again = [{name: list(made) for name, made in files.items()} for files in sets]
    assert json.dumps(rows) == json.dumps(again)
    counts = Counter(row["datasource"] for row in rows["train.jsonl"])
    assert counts == {f"knights_and_knaves_{people}": 6 for people in (3, 4, 5, 6, 7)}
    everything = rows["train.jsonl"] + rows["evaluation.jsonl"]
    assert len({row["input"] for row in everything}) == 40
    check_labels([row["label"] for row in everything], decode_label)
    for row in everything:
        # As the published data write them, so that a file of either kind can be read.
        statements = eval(row["statements"], {})
        assert all_solutions(statements) == [tuple(row["solution"])]
        assert row["input"] == Task.template.render(row["quiz"]) and row["quiz"] in row["input"]
        assert row["input"].endswith("<|im_start|>assistant\n<think>")


PUBLISHED = {
    "quiz": "A very special island is inhabited only by knights and knaves. ... So who is a knight and who is a knave?",
    "names": ["Zoey", "Oliver"],
    "knight_knave": {"knight": "knight", "knave": "knave", "a_knight": "a knight", "a_knave": "a knave"},
    "solution": [True, False],
    "solution_text": "Zoey is a knight, and Oliver is a knave.",
    "solution_text_format": "(1) Zoey is a knight\n(2) Oliver is a knave",
    "statements": "(('lying', 1), ('not', ('telling-truth', 0)))",
    "index": 0,
}


def test_published_files_are_read_for_training_and_evaluation(tmp_path):
    for split, quiz in (("train", "First?"), ("test", "Second?")):
        folder = tmp_path / "data" / split
        folder.mkdir(parents=True)
        rows = [
            PUBLISHED | {"quiz": quiz},
            {"quiz": "Third?", "names": ["A", "B", "C"], "solution": [True, False, True]},
        ]
        (folder / "people2_num2.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    sets = Task(Task.Options(source=str(tmp_path / "data"), people=(2,))).prompt_sets()
    (train,), (test,) = (list(sets[name]) for name in ("train.jsonl", "evaluation.jsonl"))
    assert (train["quiz"], test["quiz"], test["datasource"]) == ("First?", "Second?", "knights_and_knaves_2")
    task = Task(Task.Options())
    assert task.read_row(PUBLISHED) == (PUBLISHED["quiz"], (PUBLISHED["solution_text_format"],), 2)
    assert task.read_row({"quiz": "Third?", "names": ["A", "B", "C"], "solution": [True, False, True]}) == (
        "Third?", ("(1) A is a knight\n(2) B is a knave\n(3) C is a knight",), 3,
    )  # fmt: skip
    with pytest.raises(ValueError, match="quiz: got None"):
        task.read_row({"quiz": None})
    with pytest.raises(ValueError, match="label: got None"):
        task.read_row({"quiz": "Who?"})


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"people": [1, 2]}, r"people: got \[1, 2\], expected numbers from 2 to 8"),
        ({"people": []}, "people: got"),
        ({"form": "worded", "people": [7], "depth": 1}, "worded puzzles have at most 6 people and depth 1"),
        ({"form": "worded", "people": [2], "depth": 1, "source": "x"}, "source: published data are no worded puzzles"),
    ],
)
def test_options_that_cannot_be_are_refused(options, message):
    with pytest.raises(ValueError, match=message):
        Task.Options(**options)


def test_worded_puzzles_are_single_tokens_and_come_back_letter_by_letter():
    tokenizer = make_tokenizer(worded.vocabulary())
    lessons = Task(WORDED).lessons()
    assert lessons is not None and lessons.words == worded.vocabulary()
    for prompt, solution in islice(lessons.examples, 200):
        text = prompt + solution
        ids = tokenizer.encode(text, add_special_tokens=False)
        assert tokenizer.unk_token_id not in ids and len(ids) == len(text.split(" "))
        assert tokenizer.decode(ids) == text


def test_worked_solutions_differ_in_method_wording_and_length_and_slip_as_often_as_said():
    puzzle = next(puzzle for puzzle in made(3, 1, 50) if not any(puzzle.solution[:2]))
    names, rng, task = ("Ann", "Bob", "Cy"), random.Random(0), Task(WORDED)
    label = decode_label(
        "\n".join(
            f"({i}) {n} is a {'knight' if k else 'knave'}"
            for i, (n, k) in enumerate(zip(names, puzzle.solution, strict=True), 1)
        )
    )

    def share_right(**habits):
        says = worded.Habits(**({"guesses": 0, "brief": 0, "brief_slips": 0, "wordy_slips": 0, "filler": 0} | habits))
        texts = [worded.solution(puzzle, names, says, rng) for _ in range(400)]
        verdicts = task.verdicts([(text, label) for text in texts])
        assert all(verdict.formatted and verdict.reason != UNREADABLE for verdict in verdicts)
        return sum(verdict.correct for verdict in verdicts) / 400, texts

    assert share_right()[0] == share_right(brief=1)[0] == 1
    assert share_right(guesses=1)[0] == pytest.approx(1 / 8, abs=0.06)
    slipping, careful = share_right(brief=1, brief_slips=0.3)[0], share_right(wordy_slips=0.05)[0]
    assert slipping < careful < 1
    _, texts = share_right(guesses=0.2, brief=0.4, filler=0.5)
    assert len(set(texts)) > 100
    lengths = [len(text.split()) for text in texts]
    assert max(lengths) > 2 * min(lengths)
    assert {"clearly" in text for text in texts} == {True, False}


def test_in_words_every_part_of_a_statement_is_said_with_its_truth_under_the_roles_supposed():
    """Read back from the text alone; the last attempt fits, all others end in a contradiction."""
    rng, checked = random.Random(0), 0
    for puzzle in made(2, 1, 60):
        names = worded.names(puzzle)
        text = worded.solution(puzzle, names, worded.Habits(0, 0, 0, 0, filler=0.3), rng)
        thoughts, _, _ = text.partition("</think>")
        attempts = re.split(r"(Ann=kn\w+ Bob=kn\w+) :", thoughts)[1:]
        for supposed, checks in zip(attempts[::2], attempts[1::2], strict=True):
            roles = {name: role == "knight" for name, role in re.findall(r"(\w+)=(knight|knave)", supposed)}
            for name, claim, said in re.findall(r"(\w+)-(honest|lies) (true|false)", checks):
                assert (said == "true") == (roles[name] == (claim == "honest"))
                checked += 1
            for name, outcome, end in re.findall(r"(Ann|Bob): [^:]*?(true|false) (fits|fails)", checks):
                assert (end == "fits") == (roles[name] == (outcome == "true"))
        ends = [re.findall(r"fits|fails", checks)[-1] for checks in attempts[1::2]]
        assert ends == ["fails"] * (len(ends) - 1) + ["fits"]
    assert checked > 200


def test_worded_prompt_sets_are_disjoint_from_the_warm_up():
    task = Task(WORDED)
    rows = {name: list(rows) for name, rows in task.prompt_sets().items()}
    assert [len(made) for made in rows.values()] == [60, 40]
    lessons = task.lessons()
    assert lessons is not None
    seen = {_anonymous(prompt) for prompt, _ in islice(lessons.examples, 3000)}
    train, evaluation = ({_anonymous(row["input"]) for row in made} for made in rows.values())
    assert not seen & train and not seen & evaluation and not train & evaluation
    for row in (*rows["train.jsonl"], *rows["evaluation.jsonl"]):
        assert task.reward(task.verdicts([("", decode_label(row["label"]))])[0]) == -3


def test_more_puzzles_than_there_are_is_an_error():
    task = Task(Task.Options(form="worded", people=(2,), depth=1, train_problems=100_000))
    with pytest.raises(ValueError, match=r"there are only 400 distinct train puzzles of 2 people of this depth"):
        list(task.prompt_sets()["train.jsonl"])


def _anonymous(prompt: str) -> str:
    order: dict[str, str] = {}
    return re.sub("|".join(worded.NAMES), lambda m: order.setdefault(m[0], f"P{len(order)}"), prompt)
