"""Calls in rows of one width: the same numbers and gradients as at once, in the memory of one call."""

import torch

from invdiff.networks import UNet
from invdiff.networks.calls import at_any_size, in_rows
from invdiff.rng import generator


def network():
    net = UNet(channels=(8, 16), blocks=1)
    for i, p in enumerate(net.parameters()):
        p.data = 0.2 * torch.randn(p.shape, generator=generator("w", i))
    return net


def test_gradients_of_many_rows_are_those_of_each():
    net = network().requires_grad_(False)
    calls = []

    def call(x, label):
        calls.append(len(x))
        return at_any_size(net, x, label, torch.float32)

    x, label = torch.randn((7, 1, 12, 10), generator=generator("x")), torch.linspace(-1, 1, 7)
    many = x.clone().requires_grad_()
    out = in_rows(call, 3, many, label)
    weights = torch.randn(out.shape, generator=generator("v"))
    (found,) = torch.autograd.grad(out, many, weights)
    assert calls == [3] * 6, "forward, and again in the turn of each"
    for i in range(7):
        one = x[i : i + 1].clone().requires_grad_()
        answer = at_any_size(net, one, label[i : i + 1], torch.float32)
        torch.testing.assert_close(answer, out[i : i + 1], atol=1e-5, rtol=1e-4)
        (want,) = torch.autograd.grad(answer, one, weights[i : i + 1])
        torch.testing.assert_close(found[i : i + 1], want, atol=1e-5, rtol=1e-3)


def test_a_full_call_is_made_once():
    calls = []
    in_rows(lambda x: calls.append(len(x)) or x, 3, torch.zeros((3, 1), requires_grad=True))
    assert calls == [3]
