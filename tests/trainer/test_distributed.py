"""Several processes have the gradient of one."""

import torch
from dpr_lance.trainer.config import Recipe
from dpr_lance.trainer.loop import Loop

from tests.trainer.tiny_runs import corpus, model_of, relative


def share(rank, size, folder, address):
    """One of two processes: writes the gradient of the whole batch, formed of its part of it."""
    import os

    os.environ |= {"RANK": str(rank), "WORLD_SIZE": str(size), "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": address}
    from dpr_lance.trainer.distributed import join

    torch.set_num_threads(1)
    made = corpus(12)
    model = model_of(folder, dropout=0.0)
    loop = Loop(model, made, Recipe(batch_size=5, compute="fp32", max_gradient_norm=1e9), steps=2, group=join())
    loop.run(made, until=1)
    gradient = torch.cat([parameter.grad.reshape(-1) for parameter in model.parameters() if parameter.grad is not None])
    torch.save(gradient, folder / f"gradient-{size}-{rank}.pt")
    if size > 1:
        torch.distributed.destroy_process_group()


def test_two_processes_have_the_gradient_of_one(tiny):
    import socket

    with socket.socket() as found:
        found.bind(("127.0.0.1", 0))
        address = str(found.getsockname()[1])
    share(0, 1, tiny, address)
    torch.multiprocessing.spawn(share, (2, tiny, address), nprocs=2)
    alone, first, second = (
        torch.load(tiny / f"gradient-{name}.pt", weights_only=True) for name in ("1-0", "2-0", "2-1")
    )
    assert torch.equal(first, second)
    assert relative(first, alone) < 1e-5
