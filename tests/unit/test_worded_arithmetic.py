"""Arithmetic in words: the dose of filler, the slips of each method, and which tokens decide."""

import random
from itertools import islice

import pytest

from openrlhf_ktae.config import RewardConfig
from openrlhf_ktae.tasks.arithmetic import Task as PlainTask
from openrlhf_ktae.tasks.tiny_model import make_tokenizer
from openrlhf_ktae.tasks.worded_arithmetic import FILLER, METHODS, Task, decisive_tokens, problems, prompt, vocabulary

SURE = {"warmup_slips": (0, 0, 0), "restating": 0}


def solved(number: int, **options) -> list[tuple[tuple[str, ...], list[str]]]:
    task, rng = Task(Task.Options(**options)), random.Random(0)
    stream = problems("train", task.options.operations, 0)
    return [(words, task.work_out(words, rng).split()) for words in islice(stream, number)]


def test_a_solution_without_filler_works_the_problem_out():
    (_, in_full), *_ = solved(1, filler_share=0, warmup_methods=(1, 0, 0), **SURE)
    assert in_full.count("makes") == 3 and in_full[-2] == "#"
    task = Task(Task.Options(filler_share=0, warmup_methods=(1, 0, 0), **SURE))
    text = task.work_out(("7", "*", "8", "+", "1", "-", "9"), random.Random(0))
    assert text == " 7 * 8 makes 5 6 so 6 . 6 + 1 makes 0 7 so 7 . 7 - 9 makes 9 8 so 8 . # 8"
    task = Task(Task.Options(filler_share=0, warmup_methods=(0, 1, 0), warmup_slips=(0, 0, 0), restating=1))
    assert task.work_out(("7", "*", "8"), random.Random(0)) == " 7 * 8 is 6 . that leaves 6 . # 6"
    task = Task(Task.Options(filler_share=0, warmup_methods=(0, 0, 1), **SURE))
    assert task.work_out(("7", "*", "8"), random.Random(0)) == " gives 6 . # 6"


@pytest.mark.parametrize("vocabulary_size", ["small", "large"])
@pytest.mark.parametrize("share", [0, 0.5, 0.8, 0.9])
def test_the_share_of_filler_is_the_one_asked_for(share, vocabulary_size):
    filler = set(FILLER[vocabulary_size])
    texts = [words for _, words in solved(600, filler_share=share, filler_vocabulary=vocabulary_size)]
    found = sum(word in filler for words in texts for word in words) / sum(map(len, texts))
    assert found == pytest.approx(share, abs=0.02)
    assert len({word for words in texts for word in words if word in filler}) == (len(filler) if share else 0)


def test_lengths_reach_from_10_to_120_tokens():
    assert min(len(words) for _, words in solved(200, filler_share=0)) <= 14
    mean = sum(len(words) for _, words in solved(400, filler_share=0.8)) / 400
    assert 60 < mean < 130


def test_each_method_slips_as_often_as_said():
    for method, name in enumerate(METHODS):
        weights = [float(method == other) for other in range(3)]
        slips = [0.0, 0.0, 0.0]
        slips[method] = 0.4
        found = solved(1500, operations=1, filler_share=0, restating=0, warmup_methods=weights, warmup_slips=slips)
        right = Task(Task.Options())
        correct = right.verdicts([])
        assert correct == [] and all(name in words for _, words in found)
        exact = solved(1500, operations=1, filler_share=0, warmup_methods=weights, **SURE)
        wrong = sum(slip[-1] != truth[-1] for (_, slip), (_, truth) in zip(found, exact, strict=True)) / 1500
        assert wrong == pytest.approx(0.4 * 0.9, abs=0.04)  # one random digit in ten is the right one


def test_decisive_tokens_are_methods_results_and_the_answer():
    text = [
        "dab",
        "7",
        "*",
        "8",
        "makes",
        "5",
        "6",
        "so",
        "6",
        ".",
        "fop",
        "that",
        "leaves",
        "6",
        ".",
        "6",
        "+",
        "1",
        "is",
        "7",
        ".",
        "gives",
        "4",
        ".",
        "bad",
        "#",
        "4",
    ]
    decisive = decisive_tokens([f" {word}" for word in text])
    shown = [word for word, decides in zip(text, decisive, strict=True) if decides]
    assert shown == ["makes", "5", "6", "6", "is", "7", "gives", "4", "4"]
    assert Task(Task.Options()).decisive(["<eos>", " 7", " #", " 7", "<eos>"]) == [False, False, False, True, False]


def test_decisive_tokens_of_plain_arithmetic_are_the_results():
    tokens = [*"7*8=6;6+1=7;#7", "<eos>"]
    decisive = PlainTask(PlainTask.Options()).decisive(tokens)
    assert [index for index, is_decisive in enumerate(decisive or []) if is_decisive] == [4, 10, 13]


def test_a_word_that_does_not_decide_can_be_anything():
    task = Task(Task.Options(filler_share=0.5, **SURE), RewardConfig(answer_style="hash"))
    words = ("7", "*", "8", "+", "1", "-", "3")
    text = task.work_out(words, random.Random(3)).split()
    decisive = decisive_tokens(text)
    for place, is_decisive in enumerate(decisive):
        changed = " ".join(["", *text[:place], "well" if not is_decisive else text[place], *text[place + 1 :]])
        if text[place] != "#":
            assert task.verdicts([(changed, ("4",))])[0].correct


def test_words_are_single_tokens_and_prompt_sets_are_disjoint():
    for size in ("small", "large"):
        task = Task(Task.Options(filler_vocabulary=size, train_problems=300, evaluation_problems=200))
        lessons = task.lessons()
        tokenizer = make_tokenizer(lessons.words)
        assert lessons.words == vocabulary(size)
        warm = list(islice(lessons.examples, 300))
        for asked, solution in warm[:50]:
            ids = tokenizer.encode(asked + solution, add_special_tokens=False)
            assert tokenizer.unk_token_id not in ids and tokenizer.decode(ids) == asked + solution
        rows = {name: list(made) for name, made in task.prompt_sets().items()}
        sets = [{asked for asked, _ in warm}, *({row["input"] for row in made} for made in rows.values())]
        assert [len(made) for made in sets[1:]] == [300, 200]
        assert not sets[0] & sets[1] and not sets[0] & sets[2] and not sets[1] & sets[2]
        assert rows["train.jsonl"][0]["input"] == prompt(rows["train.jsonl"][0]["input"].split()[2:-1])


def test_more_problems_than_there_are_is_an_error():
    with pytest.raises(ValueError, match="1280 train problems of 1 operations, there are 300 for all splits"):
        list(Task(Task.Options(operations=1)).prompt_sets()["train.jsonl"])
