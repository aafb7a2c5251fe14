"""Knights and knaves (K&K): logic puzzles with one solution, for language models and, in few words, for tiny ones."""

import random
from collections.abc import Iterator, Mapping, Sequence
from itertools import islice
from typing import Any, Literal

from pydantic import Field, model_validator

from openrlhf_ktae.reward.grading import Verdict
from openrlhf_ktae.tasks.knights_and_knaves import worded
from openrlhf_ktae.tasks.knights_and_knaves.puzzles import Puzzle, puzzles
from openrlhf_ktae.tasks.knights_and_knaves.verifier import (
    UNREADABLE,
    Identities,
    decode_label,
    label_of,
    verdict,
)
from openrlhf_ktae.tasks.knights_and_knaves.wording import TEMPLATE, published_row, read_published
from openrlhf_ktae.tasks.prompt_set import PromptRow
from openrlhf_ktae.tasks.sources import rows_of
from openrlhf_ktae.tasks.splits import Split
from openrlhf_ktae.tasks.task import BaseTask, Lessons, MadeOptions

_MOST_REPEATED = 10_000
"""Puzzles in a row that were there before, after which no new one is expected."""


class Task(BaseTask):
    """Who is a knight, who a knave? Rewards and prompt are those of the published runs (arXiv 2505.12929)."""

    class Options(MadeOptions):
        """Knights and knaves: which puzzles, and what an answer is worth."""

        directory: str = "runs/assets/knights_and_knaves"
        """Where the prompt sets and, for `form: worded`, the warmed-up model are made."""

        form: Literal["published", "worded"] = "published"
        """`published`: English puzzles in the published prompt, for language models. `worded`: few words, one token
        each, for the tiny model, which is warmed up on worked solutions."""

        source: str = ""
        """Published data in place of made puzzles (form published): a folder with train and test files, or
        OWNER/NAME@COMMIT on the hub."""

        people: tuple[int, ...] = (3, 4, 5, 6, 7)
        """Numbers of people, 2 to 8 each; every one has the same number of puzzles."""

        depth: int = Field(default=2, ge=0, le=3)
        """Most nested connectives (and, or, if, iff, not) of a statement that is made."""

        train_problems: int = Field(default=4500, ge=1)
        """Puzzles of the training prompt set (published: 900 a number of people)."""

        evaluation_problems: int = Field(default=500, ge=1)
        """Puzzles of the evaluation prompt set (published: 100 a number of people)."""

        warmup_guesses: float = Field(default=0.13, ge=0, le=1)
        """Share of the worked solutions that guess. The tiny model guesses more often: its loss is a mean over the
        tokens of solutions of one length, so that a choice counts for more where the solution is short."""

        warmup_brief: float = Field(default=0.22, ge=0, le=1)
        """Share of the worked solutions that check briefly; the rest checks in words."""

        warmup_brief_slips: float = Field(default=0.2, ge=0, le=1)
        """Share of brief checks with the wrong outcome."""

        warmup_wordy_slips: float = Field(default=0.03, ge=0, le=1)
        """Share of checks in words with the wrong outcome."""

        warmup_filler: float = Field(default=0.1, ge=0, le=1)
        """Share of places between checks with words that mean nothing."""

        formatted: float = 1.0
        """Reward of a response with the four tags, each once and in order."""

        unformatted: float = -1.0
        """Reward of a response without them; its answer counts as unreadable."""

        right: float = 2.0
        """Reward of the right answer."""

        wrong: float = -1.5
        """Reward of a wrong answer."""

        unreadable: float = -2.0
        """Reward of an answer that does not say who is what."""

        thinking_is_open: bool = True
        """Whether the prompt ends with `<think>`, as the published one does: the tag is then the response's first."""

        @model_validator(mode="after")
        def _people_can_be_asked(self) -> "Task.Options":
            if not self.people or not all(2 <= people <= 8 for people in self.people):
                raise ValueError(f"people: got {list(self.people)}, expected numbers from 2 to 8")
            most = len(worded.NAMES)
            if self.form == "worded" and (max(self.people) > most or self.depth > 1):
                raise ValueError(
                    f"form: worded puzzles have at most {most} people and depth 1, got people {list(self.people)} and "
                    f"depth {self.depth}"
                )
            if self.source and self.form == "worded":
                raise ValueError(
                    "source: published data are no worded puzzles; leave source empty or set form=published"
                )
            return self

    template = TEMPLATE

    def decode_label(self, label: Any) -> Identities:
        """The identities in a label of the published form."""
        return decode_label(label)

    def verdicts(self, pairs: Sequence[tuple[str, Any]]) -> list[Verdict]:
        """Format and answer of each response."""
        return [verdict(response, identities, self.options.thinking_is_open) for response, identities in pairs]

    def reward(self, verdict: Verdict) -> float:
        """The published table: 3 right, -0.5 wrong, -1 unreadable, -3 in a wrong format."""
        options = self.options
        if not verdict.formatted:
            return options.unformatted + options.unreadable
        answer = options.unreadable if verdict.reason == UNREADABLE else options.wrong
        return options.formatted + (options.right if verdict.correct else answer)

    def read_row(self, row: Mapping[str, Any]) -> tuple[str, tuple[str, ...], float | None] | None:
        """A row of the published data; the number of people is its difficulty. Worded rows have no quiz."""
        if "quiz" not in row:
            return None
        text, label, people = read_published(row)
        return text, (label,), people

    def prompt_sets(self) -> dict[str, Iterator[PromptRow]]:
        """Training and evaluation puzzles; ``datasource`` says how many people there are."""
        return {"train.jsonl": self._rows("train"), "evaluation.jsonl": self._rows("evaluation")}

    def lessons(self) -> Lessons | None:
        """Worked solutions of worded puzzles, with slips."""
        if self.options.form != "worded":
            return None
        return Lessons(self._examples(), worded.vocabulary())

    def _examples(self) -> Iterator[tuple[str, str]]:
        options, rng = self.options, random.Random(f"solutions-{self.options.seed}")
        habits = worded.Habits(
            options.warmup_guesses,
            options.warmup_brief,
            options.warmup_brief_slips,
            options.warmup_wordy_slips,
            options.warmup_filler,
        )
        streams = [puzzles("warmup", people, options.depth, options.seed) for people in options.people]
        while True:
            puzzle = next(rng.choice(streams))
            names = worded.names(puzzle)
            yield worded.prompt(puzzle, names), worded.solution(puzzle, names, habits, rng)

    def _rows(self, split: Split) -> Iterator[PromptRow]:
        options = self.options
        if options.source:
            for row in rows_of(options.source, "train" if split == "train" else "test"):
                text, label, people = read_published(row)
                if people in options.people:
                    yield _row(TEMPLATE.render(text), label, people) | {
                        "quiz": text,
                        "solution_text_format": label,
                    }
            return
        rng = random.Random(f"names-{split}-{options.seed}")
        total = options.train_problems if split == "train" else options.evaluation_problems
        each, rest = divmod(total, len(options.people))
        make = _worded_row if options.form == "worded" else _published_row
        for place, people in enumerate(options.people):
            rows = (make(puzzle, rng) for puzzle in puzzles(split, people, options.depth, options.seed))
            yield from islice(_distinct(rows, f"{split} puzzles of {people} people"), each + (place < rest))


def _distinct(rows: Iterator[PromptRow], what: str) -> Iterator[PromptRow]:
    """Raises ValueError where no new one comes any more: there are 1,372 of two people at depth 1 in all splits."""
    seen: set[str] = set()
    repeated = 0
    for row in rows:
        repeated = repeated + 1 if row["input"] in seen else 0
        if not repeated:
            seen.add(row["input"])
            yield row
        elif repeated > _MOST_REPEATED:
            raise ValueError(
                f"train_problems, evaluation_problems: there are only {len(seen)} distinct {what} of this depth; ask "
                "for fewer, or for more people"
            )


def _published_row(puzzle: Puzzle, rng: random.Random) -> PromptRow:
    row = published_row(puzzle, rng)
    return _row(TEMPLATE.render(row["quiz"]), row["solution_text_format"], len(puzzle.statements)) | row


def _row(prompt: str, label: str, people: int) -> PromptRow:
    return {"input": prompt, "label": label, "datasource": f"knights_and_knaves_{people}"}


def _worded_row(puzzle: Puzzle, _rng: random.Random) -> PromptRow:
    names = worded.names(puzzle)
    return _row(worded.prompt(puzzle, names), label_of(names, puzzle.solution), len(names))
