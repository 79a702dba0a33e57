"""``msd up``: everything on this machine, in one command."""

from __future__ import annotations

from pathlib import Path

from cli.options import DEFAULT_HOST, DEFAULT_PORT, Data, Host, Model, Port, make_writable, require_loopback


def up(host: Host = DEFAULT_HOST, port: Port = DEFAULT_PORT, model: Model = "mini", data: Data = Path("data")) -> None:
    """Start Redis (unless MSD_REDIS_URL is set), the workers and the API; Ctrl-C stops them."""
    from cli.service import Service
    from worker.logs import set_up_logs

    require_loopback(host, "Listen on 127.0.0.1; for a server, see `msd api --help`.")
    logs = data / "logs"
    make_writable(logs)
    set_up_logs(logs / "up.log")
    Service(host, port, model, data).run()
