"""Which answers are true while a list changes, and which are of no state that could be in force.

The server holds a list in states 0, 1, 2, ... A state can be in force from the moment before its
file is put in place until the first answer of its successor is seen. An answer is true if a state
explains it that could be in force between the query's sending and the answer's taking: so who asks
after the first answer of a new state gets the new state, always.
"""

import bisect
import time

import load

# What a question is about: the big list; the small list's names of even states, of odd states, of
# both; names of no list; names that the big list grows by.
BIG, EVEN, ODD, BOTH, OTHER, NEW = range(6)


class Timeline:
    """When each state could begin, and when it was first seen to be in force."""

    def __init__(self):
        now = time.monotonic()
        self.changed, self.seen = [now], [now]

    def newest(self):
        return len(self.changed) - 1

    def waiting(self):
        return len(self.changed) > len(self.seen)

    def possible(self, sent, taken):
        """The numbers of the states that an answer may show: the first and the last."""
        first = bisect.bisect_right(self.seen, sent) - 1
        return first, max(first, bisect.bisect_right(self.changed, taken) - 1)


def parity(question, verdict):
    """Of an answer about a name of even or odd states: 0 if it is of an even state, else 1."""
    return 0 if (question.kind == EVEN) == (verdict == load.BLOCKED) else 1


class Truth:
    """Judges a load's answers by the timelines of the small list and of the big one."""

    def __init__(self, new_names):
        self.small, self.big = Timeline(), Timeline()
        self.new_names = {name: number for number, name in enumerate(new_names, 1)}

    def on_answer(self, question, verdict, sent, taken):
        """Notes the first answer of a new state."""
        timeline = self.big if question.kind == NEW else self.small
        if verdict == load.WRONG or not timeline.waiting() or sent < timeline.seen[-1]:
            return
        if question.kind in (EVEN, ODD):
            new = parity(question, verdict) == timeline.newest() % 2
        else:
            newest = self.new_names.get(question.name) == timeline.newest()
            new = newest and verdict == load.BLOCKED
        if new:
            timeline.seen.append(taken)

    def explained(self, question, verdict, sent, taken):
        """Whether a state that could be in force gives this answer."""
        blocked = verdict == load.BLOCKED
        if question.kind in (EVEN, ODD):
            first, last = self.small.possible(sent, taken)
            return last > first or first % 2 == parity(question, verdict)
        if question.kind == NEW:
            born = self.new_names[question.name]
            first, last = self.big.possible(sent, taken)
            return last >= born if blocked else first < born
        return blocked == (question.kind != OTHER)

    def faults(self, asker):
        """Every untrue answer in words, and how many generations were seen."""
        faults, parities = [], {}
        known, generations = [0.0], [0]  # the newest generation, by the time it was first seen
        answered = (i for i in range(len(asker.sent)) if asker.verdict[i] != load.LOST)
        for i in sorted(answered, key=asker.taken.__getitem__):
            question, verdict = asker.questions[asker.asked[i]], asker.verdict[i]
            sent, taken, generation = asker.sent[i], asker.taken[i], asker.generation[i]
            told = f"{question.name} type {question.rtype}, asked at {sent:.6f}"
            if verdict == load.WRONG:
                faults.append(f"{told}: neither the sinkhole's nor the upstream's answer")
            elif not self.explained(question, verdict, sent, taken):
                first, last = self.small.possible(sent, taken)
                since = (sent - self.small.seen[first]) * 1e3
                faults.append(
                    f"{told}: {'blocked' if verdict == load.BLOCKED else 'not blocked'}, in state "
                    f"{first} to {last}, {since:.3f} ms after the former was seen"
                )
            if generation < 0:
                continue
            floor = generations[bisect.bisect_right(known, sent) - 1]
            if generation < floor:
                faults.append(f"{told}: generation {generation} after {floor}")
            if generation > generations[-1]:
                known.append(taken)
                generations.append(generation)
            if question.kind in (EVEN, ODD):
                side = parity(question, verdict)
                if parities.setdefault(generation, side) != side:
                    faults.append(f"{told}: generation {generation} shows both states")
        return faults, len(generations) - 1
