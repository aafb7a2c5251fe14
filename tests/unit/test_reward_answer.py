"""Where the final answer stands in a response."""

import time

import pytest

from openrlhf_ktae.reward.answer import find_answer, strip_special_tokens

BOXED = [
    (r"So it is \boxed{42}.", "42"),
    (r"\boxed{1} then \boxed{\frac{1}{2}}<|im_end|>", r"\frac{1}{2}"),
    (r"$$\boxed{(2, 2)} \quad \text{and} \quad \boxed{(6, 2)}$$", "(2, 2), (6, 2)"),
    (r"\(\boxed{1}\), \(\boxed{2}\) and \(\boxed{3}\).", "1, 2, 3"),
    ("\\boxed{4},\n\\boxed{5}", "4, 5"),
    ("\\boxed{4}\n\n\\boxed{5}", "5"),
    (r"\boxed{5} $\boxed{5}$", "5"),
    (r"\boxed{1} papers and \boxed{2} bins", "2"),
    (r"\boxed{\boxed{1}}, \boxed{2}", "2"),
    (r"\fbox{7}", "7"),
    (r"$\boxed 5$", "5"),
    (r"\boxed 5 apples", "5"),
    (r"so \(\boxed \frac12\) it is", r"\frac12"),
    (r"the answer is $\boxed \frac{1}{2}$", r"\frac{1}{2}"),
    (r"\boxed{\{1,2\}}", r"\{1,2\}"),
    (r"\boxed{\left\{ x \right.}", r"\left\{ x \right."),
    (r"\boxed{3} and then \boxed{4", "3"),
    (r"put it in \boxed{6}, in \boxed{}", "6"),
    (r"\boxed{\boxed{8}}", "8"),
    (r"} } \boxed{9} {", "9"),
    (r"\boxedtext{1}", ""),
    ("no box at all", ""),
    ("", ""),
]


@pytest.mark.parametrize(("response", "answer"), BOXED)
def test_last_balanced_box(response: str, answer: str) -> None:
    found = find_answer(response, "boxed")
    assert (found.text, found.formatted) == (answer, bool(answer))


@pytest.mark.parametrize(
    ("response", "answer"),
    [
        ("<think>1</think> <answer> 42 </answer>", "42"),
        (r"<answer>1</answer> <answer>it is \boxed{7}</answer></s>", "7"),
        ("<answer> 12", "12"),
        ("<answer></answer>", ""),
        (r"\boxed{5}", ""),
    ],
)
def test_text_after_the_last_answer_tag(response: str, answer: str) -> None:
    assert find_answer(response, "tags").text == answer


@pytest.mark.parametrize(
    ("response", "answer"),
    [("7*8=6;6+1=7;#6<eos>", "6"), ("... #### 1,234\nmore", "1,234"), ("#5 #", ""), ("5", "")],
)
def test_what_follows_the_last_hash(response: str, answer: str) -> None:
    assert find_answer(response, "hash").text == answer


@pytest.mark.parametrize(
    ("response", "answer"),
    [(r"#### 1 \boxed{2}", "2"), ("<answer>3</answer> #### 1", "3"), ("#### 1", "1"), ("# Heading", "")],
)
def test_auto_takes_the_first_style_that_is_there(response: str, answer: str) -> None:
    assert find_answer(response, "auto").text == answer


def test_an_unknown_style_is_an_error_that_names_the_styles() -> None:
    with pytest.raises(ValueError, match=r"answer_style.*'box'.*boxed, tags, hash, auto"):
        find_answer("", "box")  # pyright: ignore[reportArgumentType]


def test_special_tokens_at_the_end_are_not_part_of_the_answer() -> None:
    assert strip_special_tokens("6 <eos> <|endoftext|></s><pad>\n") == "6"
    assert strip_special_tokens("x <y>") == "x <y>"
    assert strip_special_tokens("<eos>" * 3) == ""


@pytest.mark.parametrize(
    "piece",
    [
        "\\boxed{",
        "\\boxed{}",
        "\\boxed ",
        "{",
        "}",
        "\\",
        "<eos>",
        "<answer>",
        "#",
        "\\fbox",
        "<",
        ">",
        " ",
        "\\boxed{1",
        "\\boxed\n",
    ],
)
@pytest.mark.parametrize("style", ["boxed", "tags", "hash", "auto"])
def test_a_megabyte_of_anything_is_read_in_linear_time(piece: str, style: str) -> None:
    response = piece * (1_000_000 // len(piece))
    start = time.perf_counter()
    find_answer(response, style)  # pyright: ignore[reportArgumentType]
    assert time.perf_counter() - start < 4
