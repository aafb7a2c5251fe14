"""Prompt templates: the exact text of each, letter by letter."""

import pytest

from openrlhf_ktae.tasks.templates import TEMPLATES, template

QUESTION = r"What is $\frac{1}{2}$ of {x}?"

EXPECTED = {
    "qwen_math": "<|im_start|>system\n"
    "Please reason step by step, and put your final answer within \\boxed{}.<|im_end|>\n"
    "<|im_start|>user\nQQ<|im_end|>\n<|im_start|>assistant\n",
    "none": "QQ",
    "r1": "A conversation between User and Assistant. The User asks a question, and the Assistant solves it. "
    "The Assistant first thinks about the reasoning process in the mind and then provides the User with the answer. "
    "The reasoning process is enclosed within <think> </think> and answer is enclosed within <answer> </answer> tags, "
    "respectively, i.e., <think> reasoning process here </think> <answer> answer here </answer>.\n"
    "User: QQ\nAssistant: <think>",
    "prime": "A conversation between User and Assistant. The user asks a question, and the Assistant solves it. "
    "The assistant first thinks about the reasoning process in the mind and then provides the user with the answer. "
    "The reasoning process and answer are enclosed within <think> </think> and <answer> </answer> tags, respectively, "
    "i.e., <think> reasoning process here </think> <answer> answer here </answer>. User: QQ\n\n"
    "Present the answer in LaTex format: \\boxed{Your answer}. Assistant:",
    "orz": "A conversation between User and Assistant. The User asks a question, and the Assistant solves it. "
    "The Assistant first thinks about the reasoning process in the mind and then provides the User with the answer. "
    "The reasoning process is enclosed within <think> </think> and answer is enclosed within <answer> </answer> tags, "
    "respectively, i.e., <think> reasoning process here </think> <answer> answer here </answer>. "
    "User: You must put your answer inside <answer> </answer> tags, i.e., <answer> answer here </answer>. "
    "And your final answer will be extracted automatically by the \\boxed{} tag.\n"
    "This is the problem:\nQQ\nAssistant: <think>",
    "simplerl": "<|im_start|>system\nYou are a helpful assistant.<|im_end|>\n<|im_start|>user\n"
    "QQ\nPlease reason step by step, and put your final answer within \\boxed{}.<|im_end|>\n<|im_start|>assistant\n",
}


class BracketTokenizer:
    """The two things of a ``transformers`` tokenizer that a chat template needs."""

    chat_template = "present"

    def apply_chat_template(self, messages, tokenize, add_generation_prompt):
        assert not tokenize
        assert add_generation_prompt
        return "".join(f"[{message['role']}]{message['content']}" for message in messages) + "[assistant]"


@pytest.mark.parametrize("name", EXPECTED)
def test_plain_template_text_is_exact(name):
    assert template(name).render(QUESTION) == EXPECTED[name].replace("QQ", QUESTION)


def test_chat_templates_go_through_the_tokenizer():
    assert template("chat").render(QUESTION, BracketTokenizer()) == f"[user]{QUESTION}[assistant]"
    expected = (
        f"[user]{QUESTION}\nPlease reason step by step, and put your final answer within \\boxed{{}}.\n\n[assistant]"
    )
    assert template("chat_boxed").render(QUESTION, BracketTokenizer()) == expected


def test_every_template_is_covered_here():
    assert set(TEMPLATES) == {*EXPECTED, "chat", "chat_boxed"}
    assert all(name == entry.name for name, entry in TEMPLATES.items())


def test_answer_styles_and_stops():
    assert {name for name, entry in TEMPLATES.items() if entry.answer_style == "tags"} == {"r1", "orz"}
    assert {name: entry.stop for name, entry in TEMPLATES.items() if entry.stop} == {"r1": ("</answer>",)}


def test_chat_template_without_a_tokenizer_is_refused():
    with pytest.raises(ValueError, match=r"template 'chat': got no tokenizer.*qwen_math"):
        template("chat").render("1+1")


def test_unknown_template_names_the_known_ones():
    with pytest.raises(ValueError, match=r"got 'qwen', expected one of qwen_math"):
        template("qwen")
