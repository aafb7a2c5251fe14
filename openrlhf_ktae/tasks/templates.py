"""Prompt templates of the evaluation protocol (Dr. GRPO, arXiv 2503.20783); training prompts use the same texts."""

from dataclasses import dataclass
from typing import Any

from openrlhf_ktae.reward.answer import AnswerStyle

PROTOCOL = "Dr. GRPO evaluation, arXiv 2503.20783"

_BOXED_REQUEST = r"Please reason step by step, and put your final answer within \boxed{}."
_TAGS_INTRODUCTION = (
    "A conversation between User and Assistant. The User asks a question, and the Assistant solves it. The Assistant "
    "first thinks about the reasoning process in the mind and then provides the User with the answer. The reasoning "
    "process is enclosed within <think> </think> and answer is enclosed within <answer> </answer> tags, respectively, "
    "i.e., <think> reasoning process here </think> <answer> answer here </answer>."
)


@dataclass(frozen=True)
class Template:
    """How a problem becomes a prompt, and where the answer stands in the response."""

    name: str
    text: str
    """The prompt; every ``{q}`` is replaced by the problem. Other braces are literal text."""
    answer_style: AnswerStyle = "boxed"
    """Where the grader looks for the final answer (`openrlhf_ktae.reward.answer`)."""
    stop: tuple[str, ...] = ()
    """Strings that end the generation; they stay in the response."""
    source: str = PROTOCOL
    uses_chat_template: bool = False
    """Whether the text is one user message for the tokenizer's own chat template."""
    system: str | None = None
    """System prompt before that message; None leaves it to the chat template."""

    def render(self, problem: str, tokenizer: Any = None) -> str:
        """The prompt for a problem, as plain text.

        Args:
            problem: the problem's text, inserted as it is.
            tokenizer: a ``transformers`` tokenizer; needed by the chat templates, ignored by the others.

        Raises:
            ValueError: a chat template without a tokenizer that has one.
        """
        # Never str.format: the texts and the problems are full of LaTeX braces.
        prompt = self.text.replace("{q}", problem)
        if not self.uses_chat_template:
            return prompt
        if getattr(tokenizer, "chat_template", None) is None:
            found = "no tokenizer" if tokenizer is None else "a tokenizer without a chat template"
            raise ValueError(
                f"template {self.name!r}: got {found}, expected one with a chat template; "
                f"pass the model's tokenizer or choose a plain template such as 'qwen_math'"
            )
        messages = [{"role": "system", "content": self.system}] if self.system is not None else []
        messages.append({"role": "user", "content": prompt})
        return tokenizer.apply_chat_template(messages, tokenize=False, add_generation_prompt=True)


TEMPLATES: dict[str, Template] = {
    template.name: template
    for template in (
        Template(
            "qwen_math",
            f"<|im_start|>system\n{_BOXED_REQUEST}<|im_end|>\n<|im_start|>user\n{{q}}<|im_end|>\n<|im_start|>assistant\n",
        ),
        Template("none", "{q}"),
        Template("r1", _TAGS_INTRODUCTION + "\nUser: {q}\nAssistant: <think>", "tags", ("</answer>",)),
        Template(
            "prime",
            "A conversation between User and Assistant. The user asks a question, and the Assistant solves it. The "
            "assistant first thinks about the reasoning process in the mind and then provides the user with the "
            "answer. The reasoning process and answer are enclosed within <think> </think> and <answer> </answer> "
            "tags, respectively, i.e., <think> reasoning process here </think> <answer> answer here </answer>. "
            "User: {q}\n\nPresent the answer in LaTex format: \\boxed{Your answer}. Assistant:",
            source="PRIME's prompt, as used by " + PROTOCOL,
        ),
        Template(
            "orz",
            _TAGS_INTRODUCTION
            + " User: You must put your answer inside <answer> </answer> tags, i.e., <answer> answer here </answer>. "
            "And your final answer will be extracted automatically by the \\boxed{} tag.\nThis is the problem:\n{q}\n"
            "Assistant: <think>",
            "tags",
            source="Open-Reasoner-Zero's prompt, as used by " + PROTOCOL,
        ),
        Template(
            "simplerl",
            "<|im_start|>system\nYou are a helpful assistant.<|im_end|>\n"
            f"<|im_start|>user\n{{q}}\n{_BOXED_REQUEST}<|im_end|>\n<|im_start|>assistant\n",
            # The published run closed \boxed{} twice ("\boxed{}}."); that slip is not repeated here.
            source="SimpleRL-Zoo's prompt, as used by " + PROTOCOL,
        ),
        Template("chat", "{q}", uses_chat_template=True, source="the tokenizer's chat template"),
        Template(
            "chat_boxed",
            f"{{q}}\n{_BOXED_REQUEST}\n\n",
            uses_chat_template=True,
            source="the tokenizer's chat template",
        ),
    )
}
"""Every prompt template by name."""


def template(name: str) -> Template:
    """The template of that name; ValueError lists the names there are."""
    if name not in TEMPLATES:
        raise ValueError(f"template: got {name!r}, expected one of {', '.join(TEMPLATES)}")
    return TEMPLATES[name]
