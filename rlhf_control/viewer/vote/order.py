"""The order that a person gives to the clips of a ranking, as pure functions."""

LETTERS = "ABCDEFGHI"
Order = tuple[tuple[int, ...], ...]  # clips of a ranking, best first; those in one group tie


def placed(order: Order) -> tuple[int, ...]:
    return tuple(clip for group in order for clip in group)


def put(order: Order, clip: int, *, tie: bool) -> Order:
    """Puts the clip last, or ties with the last; one that has its place already loses it."""
    if clip in placed(order):
        return without(order, clip)
    if tie and order:
        return (*order[:-1], (*order[-1], clip))
    return (*order, (clip,))


def without(order: Order, clip: int) -> Order:
    groups = (tuple(other for other in group if other != clip) for group in order)
    return tuple(group for group in groups if group)


def moved(order: Order, clip: int, group: int, *, tie: bool) -> Order:
    """Ties the clip with this group, or makes a new one before it (a number past the end: the last)."""
    if tie and group < len(order) and clip in order[group]:
        return order
    shift = sum(other == (clip,) for other in order[:group])  # its own group goes
    rest, at = without(order, clip), group - shift
    if tie and at < len(rest):
        return (*rest[:at], (*rest[at], clip), *rest[at + 1 :])
    return (*rest[:at], (clip,), *rest[at:])


def completed(order: Order, clips: int) -> Order | None:
    """Returns the order of all clips, where one that is left comes last; None if more are missing."""
    missing = [clip for clip in range(clips) if clip not in placed(order)]
    if len(missing) > 1:
        return None
    return (*order, tuple(missing)) if missing else order


def ranks_of(order: Order) -> tuple[int, ...]:
    """Returns the ranks by clip: 0 best, equal numbers tie."""
    rank = {clip: place for place, group in enumerate(order) for clip in group}
    return tuple(rank[clip] for clip in sorted(rank))
