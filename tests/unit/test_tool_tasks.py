"""Tasks with a tool and with a team: the calculator, the solver and the checker."""

import random

import pytest

from openrlhf_ktae.tasks.arithmetic import answer
from openrlhf_ktae.tasks.calculator import CALL, MORE_CALLS, Calculator, work_out
from openrlhf_ktae.tasks.calculator import Task as CalculatorTask
from openrlhf_ktae.tasks.checked_arithmetic import SolverAndChecker, checked
from openrlhf_ktae.tasks.checked_arithmetic import Task as CheckedTask
from openrlhf_ktae.tasks.team import Said

PROMPT = "7*8+1-3="


def said(*turns: str) -> list[tuple[str, float, bool]]:
    calculator = Calculator(PROMPT, None)
    return [(reply.text, reply.reward, reply.done) for reply in map(calculator.reply, turns)]


def test_every_right_call_earns_one_and_the_final_answer_nothing_by_itself():
    assert said("[7*8]", "[6+1]", "[7-3]", "#4") == [
        ("6;", 1, False),
        ("7;", 1, False),
        ("4;", 1, False),
        ("", 0, True),
    ]


def test_after_a_wrong_call_the_next_one_can_be_right():
    """It goes on from what the calculator said: 7 * 9 = 3, then 3 + 1."""
    assert said("[7*9]", "[3+1]", "[7-3]") == [("3;", 0, False), ("4;", 1, False), ("4;", 0, False)]


@pytest.mark.parametrize("turn", ["7*8]", "[7*8", "[7*88]", "[7:8]", "[]", "]", "[7*8][6+1]", "[٧*8]", ""])
def test_what_is_no_call_earns_nothing(turn):
    ((text, reward, done),) = said(turn)
    assert reward == 0 and done == (not turn.endswith("]")) and (text == "?;" or done)


def test_calls_that_lead_nowhere_end():
    calculator, calls = Calculator(PROMPT, None), 0
    while not calculator.reply("[0*0]").done:
        calls += 1
    assert calls + 1 == 3 + MORE_CALLS


def test_worked_episodes_are_what_the_calculator_would_have_said():
    rng = random.Random(0)
    wrong = 0
    assert work_out(PROMPT, 0.0, rng) == "[7*8]6;[6+1]7;[7-3]4;#4"
    for prompt, written in _examples(CalculatorTask, 200):
        calculator = Calculator(prompt, None)
        *turns, final = written.split(";")
        for turn in turns:
            call, _, _ = turn.partition("]")
            assert CALL.fullmatch(call + "]") and turn + ";" == call + "]" + calculator.reply(call + "]").text
        wrong += final != f"#{answer(prompt)}"
    assert 80 < wrong < 160


def _examples(task, count):
    stream = task(task.Options()).lessons().examples
    return [next(stream) for _ in range(count)]


def test_the_digits_of_calls_and_of_the_answer_decide():
    task = CalculatorTask(CalculatorTask.Options())
    assert task.decisive("[7*8]6;#6") == [c in "78" or i == 8 for i, c in enumerate("[7*8]6;#6")]


def test_a_checker_sees_the_solvers_answer_and_has_to_say_whether_it_is_right():
    team = SolverAndChecker()
    assert team.assignment(0, PROMPT, "4", []) == (PROMPT, "4")
    assert team.assignment(1, PROMPT, "4", [Said("7*8=6;#4", True)]) == ("7*8+1-3=4?", "1")
    assert team.assignment(1, PROMPT, "4", [Said("7*8=6;#5", False)]) == ("7*8+1-3=5?", "0")
    assert team.assignment(1, PROMPT, "4", [Said("7*8=6;", False)]) == ("7*8+1-3=x?", "0")


def test_half_of_the_worked_examples_are_a_checkers_and_judge_what_they_worked_out():
    examples = _examples(CheckedTask, 400)
    checks = [(prompt, written) for prompt, written in examples if prompt.endswith("?")]
    assert len(checks) == 200
    for prompt, written in checks:
        result = written.split(";")[-2][-1]
        assert written.endswith(f"{result}?{prompt[-2]}#{int(prompt[-2] == result)}")
    assert 80 < sum(written[-1] == "1" for _, written in checks) < 140
    assert checked("1+1=", "2") == "1+1=2?"
