"""Which commands there are: the word, the file that holds it, one line about it. Imported by every command."""

from __future__ import annotations

from knarr.record import Record


class Entry(Record):
    module: str
    summary: str
    group: str = "containers"


COMMANDS = {
    "run": Entry("run", "Create a container from an image and run it"),
    "create": Entry("create", "Create a container and do not start it"),
    "start": Entry("start", "Start stopped containers"),
    "stop": Entry("stop", "Stop running containers"),
    "restart": Entry("restart", "Stop containers and start them again"),
    "kill": Entry("kill", "Send a signal to running containers"),
    "rm": Entry("rm", "Remove containers"),
    "ps": Entry("ps", "List containers"),
    "logs": Entry("logs", "Show what a container has printed"),
    "exec": Entry("exec", "Run a command in a running container"),
    "attach": Entry("attach", "Connect the terminal to a running container"),
    "wait": Entry("wait", "Wait until containers stop and print their exit codes"),
    "top": Entry("top", "Show the processes of a container"),
    "port": Entry("port", "Show the published ports of a container"),
    "rename": Entry("rename", "Give a container another name"),
    "pause": Entry("pause", "Freeze all processes of containers"),
    "unpause": Entry("unpause", "Let frozen containers go on"),
    "inspect": Entry("inspect", "Show everything about containers and images as JSON"),
    "pull": Entry("pull", "Fetch an image from a registry", "images"),
    "images": Entry("images", "List images", "images"),
    "rmi": Entry("rmi", "Remove images", "images"),
    "tag": Entry("tag", "Give an image another name", "images"),
    "login": Entry("login", "Keep a name and password for a registry", "images"),
    "logout": Entry("logout", "Forget them", "images"),
    "save": Entry("save", "Write images to an archive", "images"),
    "load": Entry("load", "Read images from an archive", "images"),
    "info": Entry("info", "Show this machine as knarr sees it", "system"),
    "doctor": Entry("doctor", "Say what this machine lacks and how to mend it", "system"),
    "version": Entry("version", "Show the version", "system"),
    "completion": Entry("completion", "Print a shell's completion script", "system"),
}

# docker's management words: `knarr container ls` is `knarr ps`.
GROUPS: dict[str, dict[str, str]] = {
    "container": {
        w: w
        for w in (
            "attach create exec inspect kill logs pause port rename restart rm run start stop top unpause wait"
        ).split()
    }
    | {"ls": "ps", "list": "ps", "ps": "ps"},
    "image": {
        "ls": "images", "list": "images", "rm": "rmi", "pull": "pull", "save": "save", "load": "load",
        "tag": "tag", "inspect": "inspect",
    },
    "system": {"info": "info"},
}  # fmt: skip
