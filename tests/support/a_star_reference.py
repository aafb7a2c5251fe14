"""A*-PO written down a second time from the paper, in plain Python: numbers in, numbers out, gradient by hand."""

import math


def value(rewards, beta1):
    """V* of a prompt."""
    return beta1 * math.log(sum(math.exp(reward / beta1) for reward in rewards) / len(rewards))


def loss_and_gradient(log_probs, ref_log_probs, masks, rewards, values, beta2):
    """The mean squared residual over rollouts, and its derivative by every log-probability (0 outside the mask)."""
    total, gradient = 0.0, []
    for row, ref_row, mask, reward, v_star in zip(log_probs, ref_log_probs, masks, rewards, values, strict=True):
        log_ratio = 0.0
        for log_prob, ref_log_prob, is_token in zip(row, ref_row, mask, strict=True):
            if is_token:
                log_ratio += log_prob - ref_log_prob
        residual = beta2 * log_ratio + v_star - reward
        total += residual**2 / len(rewards)
        gradient.append([2 * residual * beta2 / len(rewards) if is_token else 0.0 for is_token in mask])
    return total, gradient
