"""What Ray says of this process. It is asked where it is loaded, and never loaded.

Ray Train names its workers in an object and not in the environment, unless they train with torch; and its name for a training, which outlives the restarts of its workers, is private, as
is the name of a session. Where another version of Ray has neither, its workers count as processes of no launcher.
"""

from __future__ import annotations

import sys
from dataclasses import dataclass
from typing import Any

_TRAIN_CONTEXT = "ray.train.v2._internal.execution.context"


@dataclass(frozen=True, slots=True)
class RayPlace:
    """A worker of Ray: the session and job it belongs to, and if it is one of Ray Train's, the training, the start of its workers, and its place among them."""

    job: str
    training: str = ""
    attempt: str = ""
    rank: int = 0
    local_rank: int = 0
    world_size: int = 1


def ray_place() -> RayPlace | None:
    """The place of this process in Ray; None where it has none. Never raises."""
    ray: Any = sys.modules.get("ray")
    try:
        if ray is None or not ray.is_initialized():
            return None
        job = f"{ray._private.worker._global_node.session_name}/{ray.get_runtime_context().get_job_id()}"
        return _in_training(job) or RayPlace(job)
    except Exception:  # noqa: BLE001 - whatever another version of Ray makes of it
        return None


def _in_training(job: str) -> RayPlace | None:
    train: Any = sys.modules.get(_TRAIN_CONTEXT)
    try:
        context = train.get_train_context()
        return RayPlace(
            job,
            str(context.train_run_context.run_id),
            f"ray-{context.execution_context.synchronization_actor._actor_id.hex()}",
            int(context.get_world_rank()),
            int(context.get_local_rank()),
            int(context.get_world_size()),
        )
    except Exception:  # noqa: BLE001 - it is no worker of Ray Train's, or of another version
        return None
