"""The servers that the tests talk to: a scripted hostile origin, a cutting proxy, and real servers.

Each runs in a process of its own, so that the client under test shares no interpreter lock with it,
and ends with its standard input, so that no test leaves one behind. README.md tells how to run them
by hand. Nothing here may import the project: these are its independent witnesses.
"""
