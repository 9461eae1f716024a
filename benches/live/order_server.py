"""Shared by orders.py, orders_flood.py and others: an order's text, and a server with orders and exceptions."""

import os

import live

TEXT = """id = "{id}"
legal-basis = ["Law 1"]
review-at = 2100-01-01T00:00:00Z
{dates}
authority = {{ name = "The Authority" }}
reason = {{ en = "It says so" }}
redress = {{ how = "Write to it" }}
"""


def order(ident, names, dates="effective-from = 2020-01-01T00:00:00Z"):
    targets = "".join(f'[[targets]]\nname = "{name}"\nscope = "exact"\n' for name in names)
    return TEXT.format(id=ident, dates=dates) + targets


class Server(live.Tapis):
    """A server with a state directory, and so a journal, and directories of orders and exceptions."""

    def prepare(self, folder, *more):
        """Creates these directories, and more, before the server is started."""
        self.folder = folder
        for name in ("orders", "exceptions", *more):
            os.makedirs(os.path.join(folder, name), exist_ok=True)

    def write_config(self, sections):
        more = ['[state]\ndir = "state"\n', '[orders]\npath = "orders"\n', '[exceptions]\npath = "exceptions"\n']
        return super().write_config([*sections, *more])

    def write(self, name, text):
        path = os.path.join(self.folder, name)
        with open(path + ".new", "w") as out:
            out.write(text)
        os.rename(path + ".new", path)
