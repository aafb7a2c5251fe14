"""Do the batches divide, do the GPUs add up, do the lengths fit? Answered before anything starts, with the numbers.

OpenRLHF rounds most of these down: rollouts that do not fill a training batch are generated, graded and dropped.
"""

from dataclasses import dataclass
from types import SimpleNamespace


class BatchSizeError(ValueError):
    """Batches, GPUs or lengths that do not fit; the message holds the numbers."""


@dataclass(frozen=True)
class BatchPlan:
    """What one step does."""

    rollouts: int
    """Rollouts a step: prompts x rollouts of each."""
    updates: int
    """Optimizer updates a step and epoch."""
    gpus: dict[str, int]
    """GPUs by role; roles that share GPUs stand together under one key."""

    @property
    def gpus_total(self) -> int:
        """GPUs that the cluster has to have."""
        return sum(self.gpus.values())


def batch_plan(args: SimpleNamespace, available_gpus: int | None = None) -> BatchPlan:
    """Checks the batch arithmetic of a run.

    Args:
        args: OpenRLHF's options as its code reads them (`openrlhf_options.parse`).
        available_gpus: GPUs of the cluster, where they are known.

    Raises:
        BatchSizeError: naming the options, their numbers and values that fit.
    """
    workers, rollouts = _policy_workers(args), args.rollout.batch_size * args.rollout.n_samples_per_prompt
    _check_lengths(args)
    _check_updates(args, rollouts)
    _check_workers(args, rollouts, workers)
    plan = BatchPlan(rollouts, rollouts // args.train.batch_size, _gpus(args))
    if available_gpus is not None:
        check_gpu_count(plan, available_gpus)
    return plan


def check_gpu_count(plan: BatchPlan, available_gpus: int) -> None:
    """Raises BatchSizeError where a run needs more GPUs than there are."""
    if plan.gpus_total > available_gpus:
        roles = " + ".join(f"{count} ({role})" for role, count in plan.gpus.items())
        raise BatchSizeError(
            f"GPUs: {roles} = {plan.gpus_total}, but there are {available_gpus}; lower actor.num_gpus_per_node, "
            "ref.num_gpus_per_node or vllm.num_engines, or let them share with train.colocate_all=true"
        )


def _policy_workers(args: SimpleNamespace) -> int:
    """Those that see different data: ring attention and tensor parallel groups count once."""
    processes = args.actor.num_nodes * args.actor.num_gpus_per_node
    together = args.ds.ring_attn_size * args.ds.tensor_parallel_size
    if processes % together:
        raise BatchSizeError(
            f"policy: actor.num_nodes {args.actor.num_nodes} x actor.num_gpus_per_node {args.actor.num_gpus_per_node} "
            f"= {processes} GPUs is no multiple of ds.ring_attn_size {args.ds.ring_attn_size} x "
            f"ds.tensor_parallel_size {args.ds.tensor_parallel_size} = {together}"
        )
    return processes // together


def _check_lengths(args: SimpleNamespace) -> None:
    response, total, buffer = args.rollout.max_new_tokens, args.data.max_len, args.reward.overlong_buffer_len
    if response is not None and response >= total:
        raise BatchSizeError(
            f"lengths: rollout.max_new_tokens {response} leaves no room for a prompt in data.max_len {total} (prompt + "
            f"response); set data.max_len above {response}"
        )
    if buffer is not None and not 0 < buffer <= (response or total):
        raise BatchSizeError(
            f"lengths: reward.overlong_buffer_len {buffer:g} must lie in 1 .. {response or total}, the longest response"
        )


def _check_updates(args: SimpleNamespace, rollouts: int) -> None:
    size = args.train.batch_size
    if rollouts % size:
        fits = [n for n in range(rollouts, 0, -1) if rollouts % n == 0]
        nearest = min(fits, key=lambda n: abs(n - size))
        raise BatchSizeError(
            f"batches: rollout.batch_size {args.rollout.batch_size} x rollout.n_samples_per_prompt "
            f"{args.rollout.n_samples_per_prompt} = {rollouts} rollouts a step are no multiple of train.batch_size "
            f"{size}: {rollouts % size} of them would be dropped; set train.batch_size={nearest}"
        )


def _check_workers(args: SimpleNamespace, rollouts: int, workers: int) -> None:
    size, micro = args.train.batch_size, args.train.micro_batch_size
    made_of = f"actor.num_nodes {args.actor.num_nodes} x actor.num_gpus_per_node {args.actor.num_gpus_per_node}"
    if size % workers:
        raise BatchSizeError(
            f"batches: train.batch_size {size} is no multiple of the {workers} policy workers ({made_of}); "
            "choose a number of workers that divides it"
        )
    # Rollouts reach the workers in pieces of rollout.micro_batch_size; a worker that gets fewer would train less.
    piece = args.rollout.micro_batch_size
    if rollouts % (piece * workers) and not args.train.dynamic_batch_enable:
        raise BatchSizeError(
            f"batches: {rollouts} rollouts a step do not split evenly over {workers} policy workers ({made_of}) in "
            f"pieces of rollout.micro_batch_size {piece}: choose a divisor of {rollouts // workers}"
        )
    if size % (micro * workers) and not args.train.dynamic_batch_enable:
        raise BatchSizeError(
            f"batches: train.batch_size {size} is no multiple of train.micro_batch_size {micro} x {workers} policy "
            f"workers ({made_of}) = {micro * workers}; choose a divisor of {size // workers} for train.micro_batch_size"
        )


def _gpus(args: SimpleNamespace) -> dict[str, int]:
    policy = args.actor.num_nodes * args.actor.num_gpus_per_node
    has_reference = args.algo.kl.init_coef > 0
    reference = args.ref.num_nodes * args.ref.num_gpus_per_node if has_reference else 0
    engines = (args.vllm.num_engines or 0) * args.vllm.tensor_parallel_size
    if engines == 0:
        raise BatchSizeError(f"vllm.num_engines: got {args.vllm.num_engines}, expected at least 1")
    shares_reference = args.train.colocate_all or args.train.colocate_actor_ref
    same_shape = (args.actor.num_nodes, args.actor.num_gpus_per_node) == (
        args.ref.num_nodes,
        args.ref.num_gpus_per_node,
    )
    if has_reference and shares_reference and not same_shape:
        raise BatchSizeError(
            f"GPUs: policy {args.actor.num_nodes} x {args.actor.num_gpus_per_node} and reference {args.ref.num_nodes} "
            f"x {args.ref.num_gpus_per_node} share GPUs and need the same shape; set "
            f"ref.num_nodes={args.actor.num_nodes} and ref.num_gpus_per_node={args.actor.num_gpus_per_node}"
        )
    shares_engines = args.train.colocate_all and not args.train.async_enable
    if shares_engines and engines != policy:
        raise BatchSizeError(
            f"GPUs: train.colocate_all needs as many GPUs for vLLM as for the policy: vllm.num_engines "
            f"{args.vllm.num_engines} x vllm.tensor_parallel_size {args.vllm.tensor_parallel_size} = {engines}, policy "
            f"{args.actor.num_nodes} x {args.actor.num_gpus_per_node} = {policy}"
        )
    if shares_engines:
        return {"policy, reference and vLLM" if has_reference else "policy and vLLM": policy}
    gpus = {"policy and reference": policy} if has_reference and shares_reference else {"policy": policy}
    if has_reference and not shares_reference:
        gpus["reference"] = reference
    return gpus | {"vLLM": engines} | _further_models(args)


def _further_models(args: SimpleNamespace) -> dict[str, int]:
    """GPUs of a critic and of a reward model; both share the policy's where everything is colocated."""
    if args.train.colocate_all:
        return {}
    critic = args.critic.num_nodes * args.critic.num_gpus_per_node if args.algo.advantage.estimator == "gae" else 0
    reward = 0 if args.reward.remote_url else args.reward.num_nodes * args.reward.num_gpus_per_node
    if critic and reward and args.train.colocate_critic_reward:
        return {"critic and reward": critic}
    return {role: count for role, count in {"critic": critic, "reward": reward}.items() if count}
