"""How many connections: a hill climb on the goodput of the whole transfer."""
from libc.stdint cimport int64_t


cdef enum Why:              # of the last change of `target`
    START                   # the number that was given
    GROW                    # a search begins: more are tried
    GAIN                    # what was tried paid, so on in that direction
    NO_GAIN                 # it did not pay: back, or on to the next try
    FELL                    # goodput has fallen while the number was held: fewer are tried
    PROBE                   # held for long enough: would another number do now?
    REFUSED_                # the server does not take that many


cdef enum Phase:
    BASE                    # `target` is measured: what others are compared with
    TRY                     # `target` is compared with `best`
    HOLD                    # `target` is `best`; watched


cdef struct Controller:     # plain data: copied and forgotten freely
    int target              # connections wanted
    Why why
    double rate             # bytes per second in the last window that counted
    int cap
    Phase phase
    bint searching          # a whole search; False: one probe
    bint downwards          # this search begins with fewer
    # What is known. Counts at or below `low` lose goodput, those from `high` on gain none; 0: unknown
    int best
    int low
    int high
    bint hurt               # in this search more have brought less
    int looks               # at fewer, that showed a small loss
    double best_rate        # what `best` gives, and the seconds it was measured for
    double best_seconds
    # What the server refuses
    int ceiling             # it took this many, and no more; 0: has not refused
    double retry_at         # one more is tried from then on
    double retry_after      # seconds; doubles with every refusal of the retry
    # When to look again
    double probe_at
    double interval         # seconds; doubles with every probe that changed nothing
    bint probed_more        # the last probe; the next is for fewer
    int fresh               # windows left in which best_rate has to prove true
    int below               # windows in a row that were far below best_rate, and above it
    int above
    # Time, as far as it counts: ticks that say nothing do not advance `clock`
    double last             # the caller's clock, and its count of bytes, at the last tick
    int64_t seen
    double clock
    double changed          # when `target` changed
    bint grew               # … upwards: new connections have to get going
    double ramp             # seconds from a first byte to full speed (TCP slow start); < 0: unknown
    # The window that is open, and its newest piece
    bint open
    bint ramping            # … while new connections are not at full speed yet
    double opened           # when the first window after a change was
    double since
    int64_t seen_since
    double piece
    int64_t seen_piece
    double piece_rate       # of the piece before; < 0: none
    int pieces
    int falls               # from one piece to the next


cdef void control_init(Controller* c, int start, int cap) noexcept nogil
cdef int control_tick(Controller* c, double now, int64_t received, int active, bint eager,
                      double settle) noexcept nogil
cdef int control_refused(Controller* c, double now, int working) noexcept nogil
