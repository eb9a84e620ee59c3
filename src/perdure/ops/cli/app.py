"""All commands, by their names. Next to read: ``options.py``, what they share; ``exits.py``."""

from __future__ import annotations

from collections.abc import Sequence

import typer

from perdure.ops.cli import database, listing, looking, queueing, ray, repairing, sending
from perdure.ops.cli.about import completion, grafana, version
from perdure.ops.cli.bench import bench
from perdure.ops.cli.describing import check_app, describe_app
from perdure.ops.cli.hosts import hosts
from perdure.ops.cli.options import add
from perdure.ops.cli.running import run as run_runtime
from perdure.ops.cli.verdict import health

__all__ = ["app", "run"]

HELP = """Look into, repair and run long-running processes.

Looking opens the store read-only, beside whoever holds it, and needs none of your code. Repairing
goes through the runtime that holds the store, or through one that --app starts here. Options stand
behind the command: perdure health --store orders.db; or set PERDURE_STORE and PERDURE_APP.

Exit codes: 0 done; 1 failed; 2 wrong usage; 3 not found; 4 refused, nothing was changed; 5 the
store cannot be used; 6 and 7 health is a warning or critical; 130 interrupted."""

app = typer.Typer(
    name="perdure",
    help=HELP,
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    rich_markup_mode="markdown",
    context_settings={"help_option_names": ["-h", "--help"]},
)

instances = typer.Typer(no_args_is_help=True, help="Look at instances.")
add(instances, "list", looking.instances)
add(instances, "show", looking.show)
add(instances, "history", looking.history)
add(instances, "why", looking.why)
add(instances, "count", looking.counts)
app.add_typer(instances, name="instances")

dead = typer.Typer(no_args_is_help=True, help="Dead letters: look, redrive, discard.")
add(dead, "list", listing.dead_list)
add(dead, "show", listing.dead_show)
add(dead, "redrive", queueing.dead_redrive)
add(dead, "discard", queueing.dead_discard)
app.add_typer(dead, name="dead")

for name, help_text in repairing.MANY.items():
    add(app, name, repairing.of_many(name, help_text))
add(app, "skip", repairing.skip)
add(app, "done", repairing.mark_done)
add(app, "restart", repairing.restart)

deadline = typer.Typer(no_args_is_help=True, help="Change a deadline of an instance.")
add(deadline, "set", repairing.deadline_set)
add(deadline, "cancel", repairing.deadline_cancel)
app.add_typer(deadline, name="deadline")

queue = typer.Typer(no_args_is_help=True, help="Change a work queue.")
add(queue, "pause", queueing.queue_pause)
add(queue, "resume", queueing.queue_resume)
add(queue, "cancel-job", queueing.job_cancel)
app.add_typer(queue, name="queue")

db = typer.Typer(no_args_is_help=True, help="The tables in PostgreSQL: create, migrate, check.")
add(db, "upgrade", database.upgrade)
add(db, "current", database.current)
add(db, "check", database.check)
add(db, "stamp", database.stamp)
app.add_typer(db, name="db")

add(app, "send", sending.send)
add(app, "publish", sending.publish)
add(app, "enqueue", sending.enqueue)

add(app, "queues", listing.queues)
add(app, "jobs", listing.jobs)
add(app, "inbox", listing.inbox)
add(app, "deadlines", listing.deadlines)
add(app, "schedules", listing.schedules)

on_ray = typer.Typer(no_args_is_help=True, help="Hosts on a cluster of Ray.")
add(on_ray, "up", ray.up)
add(on_ray, "status", ray.status)
add(on_ray, "drain", ray.drain)
add(on_ray, "rebalance", ray.rebalance)
add(on_ray, "down", ray.down)
app.add_typer(on_ray, name="ray")

add(app, "hosts", hosts)
add(app, "health", health)
add(app, "run", run_runtime)
add(app, "describe", describe_app)
add(app, "check", check_app)
add(app, "bench", bench)
add(app, "version", version)
add(app, "grafana", grafana)
add(app, "completion", completion)


def run(arguments: Sequence[str] | None = None) -> int:
    """Run the command line; the exit code."""
    try:
        app(args=None if arguments is None else list(arguments), prog_name="perdure")
    except SystemExit as ended:
        return ended.code if isinstance(ended.code, int) else 1
    return 0
