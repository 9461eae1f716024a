"""Which answers are correct while a list changes, and which belong to no state that could be in force.

The server loads a list in states 0, 1, 2, ... A state can be in force from the moment before its file
is put in place until the first answer of its successor is received. An answer is correct if it agrees with a
state that could be in force between sending the query and receiving the answer. So a query that is sent after
the first answer of a new state must get the new state.
"""

import bisect
import time

import load

# The kinds of names: in the large list; in the small list's even states, odd states, or both; in no
# list; to be added to the large list.
BIG, EVEN, ODD, BOTH, OTHER, NEW = range(6)


class Timeline:
    """When each state could begin, and when it was first observed in an answer."""

    def __init__(self):
        now = time.monotonic()
        self.changed, self.seen = [now], [now]

    def newest(self):
        return len(self.changed) - 1

    def waiting(self):
        return len(self.changed) > len(self.seen)

    def possible(self, sent, taken):
        """The numbers of the states that an answer can show: the first and the last."""
        first = bisect.bisect_right(self.seen, sent) - 1
        return first, max(first, bisect.bisect_right(self.changed, taken) - 1)


def parity(query, verdict):
    """The parity (0 or 1) of the state that gave an answer; the name is in the even or the odd states only."""
    return 0 if (query.kind == EVEN) == (verdict == load.BLOCKED) else 1


class ExpectedAnswers:
    """Checks a load's answers by the timelines of the small list and of the large one."""

    def __init__(self, new_names):
        self.small, self.big = Timeline(), Timeline()
        self.new_names = {name: number for number, name in enumerate(new_names, 1)}

    def on_answer(self, query, verdict, sent, taken):
        """Records the first answer of a new state."""
        timeline = self.big if query.kind == NEW else self.small
        if verdict == load.WRONG or not timeline.waiting() or sent < timeline.seen[-1]:
            return
        if query.kind in (EVEN, ODD):
            new = parity(query, verdict) == timeline.newest() % 2
        else:
            newest = self.new_names.get(query.name) == timeline.newest()
            new = newest and verdict == load.BLOCKED
        if new:
            timeline.seen.append(taken)

    def explained(self, query, verdict, sent, taken):
        """Whether a state that could be in force gives this answer."""
        blocked = verdict == load.BLOCKED
        if query.kind in (EVEN, ODD):
            first, last = self.small.possible(sent, taken)
            return last > first or first % 2 == parity(query, verdict)
        if query.kind == NEW:
            born = self.new_names[query.name]
            first, last = self.big.possible(sent, taken)
            return last >= born if blocked else first < born
        return blocked == (query.kind != OTHER)

    def faults(self, sender):
        """A description of every incorrect answer, and the number of generations observed."""
        faults, parities = [], {}
        known, generations = [0.0], [0]  # when an answer first had a newer generation, and that generation
        answered = (i for i in range(len(sender.sent)) if sender.verdict[i] != load.LOST)
        for i in sorted(answered, key=sender.taken.__getitem__):
            query, verdict = sender.queries[sender.asked[i]], sender.verdict[i]
            sent, taken, generation = sender.sent[i], sender.taken[i], sender.generation[i]
            report = f"{query.name} type {query.rtype}, asked at {sent:.6f}"
            if verdict == load.WRONG:
                faults.append(f"{report}: neither the sinkhole's nor the upstream's answer")
            elif not self.explained(query, verdict, sent, taken):
                first, last = self.small.possible(sent, taken)
                since = (sent - self.small.seen[first]) * 1e3
                faults.append(
                    f"{report}: {'blocked' if verdict == load.BLOCKED else 'not blocked'}, although "
                    f"only states {first} to {last} were possible; sent {since:.3f} ms after state {first} was seen"
                )
            if generation < 0:
                continue
            floor = generations[bisect.bisect_right(known, sent) - 1]
            if generation < floor:
                faults.append(f"{report}: generation {generation} after {floor}")
            if generation > generations[-1]:
                known.append(taken)
                generations.append(generation)
            if query.kind in (EVEN, ODD):
                side = parity(query, verdict)
                if parities.setdefault(generation, side) != side:
                    faults.append(f"{report}: generation {generation} shows both states")
        return faults, len(generations) - 1
