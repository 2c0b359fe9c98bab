"""Which commands `knarr-runtime` has: the word, and one line about it. The file of a command has its name."""

from __future__ import annotations

COMMANDS = {
    "create": "Create a container from a bundle",
    "start": "Start a container that was created",
    "run": "Create a container and start it",
    "state": "Show the state of a container",
    "kill": "Send a signal to a container",
    "delete": "Remove a container that has stopped",
    "exec": "Start a process in a container",
    "list": "List containers",
    "ps": "Show the processes of a container",
    "pause": "Freeze all processes of a container",
    "resume": "Let frozen processes go on",
    "update": "Change the limits of a container",
    "events": "Show what a container uses, and when it runs out of memory",
    "checkpoint": "Write a running container to disk",
    "restore": "Let a container go on that was written to disk",
    "spec": "Write a config.json to begin with",
    "features": "Show what this runtime can do",
    "plan": "Show the steps of a bundle's container",
}
