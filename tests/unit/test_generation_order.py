"""Requests of a step reach vLLM in one order and with one seed each, however they arrive."""

import asyncio
import random

import pytest

from openrlhf_ktae.training.generation_order import OneByOne, Round, seed_of


class Engine:
    """Stands for vLLM's asynchronous engine: notes what reaches its queue."""

    def __init__(self):
        self.queue = []

    async def add_request(self, prompt, seed):
        await asyncio.sleep(random.random() / 1000)
        self.queue.append((prompt, seed))

    async def pause_generation(self, mode):
        self.queue.append(("pause", mode))

    async def resume_generation(self):
        self.queue.append(("resume", ""))


class DeadEngine(Engine):
    """One whose process has died: a call fails."""

    def __init__(self, call):
        super().__init__()
        setattr(self, call, self._fail)

    async def _fail(self, *_, **__):
        raise ConnectionError("the engine died")


def sampled(prompts):
    engine = Engine()
    asyncio.run(requests(engine, prompts))
    return engine.queue


async def requests(engine, prompts):
    one_by_one = OneByOne(engine)
    one_by_one.round = Round(engine, 7, len(prompts))

    async def request(prompt):
        await asyncio.sleep(random.random() / 100)
        async with one_by_one.round.turn(prompt) as seed:
            await engine.add_request(prompt, seed)

    found = await asyncio.wait_for(asyncio.gather(*map(request, prompts), return_exceptions=True), 5)
    await asyncio.sleep(0)
    return found


@pytest.mark.parametrize("call", ["pause_generation", "add_request"])
def test_every_request_learns_that_the_engine_has_died(call):
    found = asyncio.run(requests(DeadEngine(call), ["b", "a", "c"]))
    assert [str(error) for error in found] == ["the engine died"] * 3


def test_the_order_of_arrival_does_not_matter():
    prompts = ["b", "a", "d", "c", "a"]
    first = sampled(prompts)
    assert [prompt for prompt, _ in first] == ["pause", "a", "a", "b", "c", "d", "resume"]
    assert all(sampled(random.sample(prompts, 5)) == first for _ in range(5))


def test_seeds_differ_between_prompts_steps_and_repetitions():
    seeds = {seed_of(seed, prompt, count) for seed in (1, 2) for prompt in ("a", "b") for count in (1, 2)}
    assert len(seeds) == 8 and all(0 <= seed < 2**31 for seed in seeds)


def test_a_request_that_never_reaches_the_engine_does_not_hold_up_the_others():
    async def run():
        engine = Engine()
        one_by_one = OneByOne(engine)
        one_by_one.round = Round(engine, 7, 3)

        async def request(prompt):
            async with one_by_one.round.turn(prompt) as seed:
                if prompt == "b":
                    raise ValueError(prompt)
                await engine.add_request(prompt, seed)

        await asyncio.wait_for(asyncio.gather(*map(request, "abc"), return_exceptions=True), 5)
        await asyncio.sleep(0)
        return [prompt for prompt, _ in engine.queue]

    assert asyncio.run(run()) == ["pause", "a", "c", "resume"]
