"""Tars made by hand, for what no honest writer makes; and trees, as they can be compared."""

from __future__ import annotations

import os
import stat

__all__ = ["block", "end", "member", "pax", "records", "tree"]


def block(name=b"x", kind=b"0", size=0, *, mode=0o644, uid=0, gid=0, mtime=0, link=b"", magic=b"ustar\x0000",
          major=0, minor=0, prefix=b"", raw=None, checksum=None):  # fmt: skip
    """One header. Numbers that are bytes are taken as they are; raw: {offset: bytes}."""

    def number(value, width):
        return value if isinstance(value, bytes) else b"%0*o\0" % (width - 1, value)

    head = bytearray(512)
    fields = [
        (0, name, 100), (100, number(mode, 8), 8), (108, number(uid, 8), 8), (116, number(gid, 8), 8),
        (124, number(size, 12), 12), (136, number(mtime, 12), 12), (148, b" " * 8, 8), (156, kind, 1),
        (157, link, 100), (257, magic, 8), (329, number(major, 8), 8), (337, number(minor, 8), 8), (345, prefix, 155),
        *((at, data, 512) for at, data in (raw or {}).items()),
    ]  # fmt: skip
    for at, data, width in fields:
        assert len(data) <= width
        head[at : at + len(data)] = data
    head[148:156] = b"%06o\0 " % sum(head) if checksum is None else checksum
    return bytes(head)


def padded(data):
    return data + bytes(-len(data) % 512)


def member(name=b"x", data=b"", **fields):
    return block(name, size=fields.pop("size", len(data)), **fields) + padded(data)


def records(*pairs):
    out = b""
    for key, value in pairs:
        tail = b" %s=%s\n" % (key, value)
        length = len(tail) + 1
        while len(b"%d" % length) + len(tail) != length:
            length = len(b"%d" % length) + len(tail)
        out += b"%d%s" % (length, tail)
    return out


def pax(*pairs, kind=b"x"):
    return member(b"PaxHeaders/x", records(*pairs), kind=kind)


end = bytes(1024)


def tree(root, *, owners=True):
    """{name: what it is}; hard links by the names that share a file."""
    found, groups = {}, {}
    root = os.fsencode(root)
    for folder, folders, files in os.walk(root):
        for name in [b".", *folders, *files] if folder == root else folders + files:
            path = os.path.join(folder, name)
            try:
                st = os.lstat(path)
            except FileNotFoundError:  # a whiteout of nothing: overlayfs lists it, and has it not
                continue
            content = b""
            if stat.S_ISREG(st.st_mode):
                with open(path, "rb") as file:
                    content = file.read()
                if st.st_nlink > 1:
                    groups.setdefault(st.st_ino, []).append(path[len(root) :])
            elif stat.S_ISLNK(st.st_mode):
                content = os.readlink(path)
            xattrs = {
                key: os.getxattr(path, key, follow_symlinks=False) for key in os.listxattr(path, follow_symlinks=False)
            }
            owner = (st.st_uid, st.st_gid) if owners else ()
            found[path[len(root) :]] = (stat.filemode(st.st_mode), owner, st.st_mtime_ns, st.st_rdev, content, xattrs)
    return found, sorted(map(sorted, groups.values()))
