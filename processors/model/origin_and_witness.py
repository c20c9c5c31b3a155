"""Exhaustive model of the origin rule with shared memory of repeats: every interleaving of owners of one journal partition that process, flush, checkpoint, crash and wake late, with compaction
at any moment. Invariants: what a reader has accepted is always a prefix of what one undisturbed run emits, and whatever is written late is equal to what was written first.
Each record has a content; a record whose content was recorded before is a repeat and must change nothing. One key, WITNESS, remembers for every
content the first offset that carried it; the other keys ask it. Because the answer "novel at offset o" = "first offset is o" never changes once it
is known, it is the same for a key that restores ahead of the witness, behind it, or beside it.
Run: python3 origin_and_witness.py; it also shows that each rule is needed."""
from collections import deque

WITNESS = 0
SHORT = (((1,), "a"), ((1,), "b"), ((1,), "a"))  # which state keys each record wakes, in byte order, and its content
LONG = (((1,), "a"), ((1, 2), "b"), ((1, 2), "a"), ((1, 2), "c"), ((2,), "b"))  # too long to finish, long enough to show what each rule prevents
KEYS = (0, 1, 2)

def step(value, offset): return value * 7 + offset + 1  # any function that is not idempotent
def emits(key, value): return (key + value) % 3 != 2    # not every step has an output
def remember(seen, content, offset): return seen if content in dict(seen) else (*seen, (content, offset))
def empty(): return [()] + [0] * (len(KEYS) - 1)
def truth(journal):
    """[(origin, value)] of one undisturbed run."""
    state, out = empty(), []
    for i, (woken, content) in enumerate(journal):
        if content in dict(state[WITNESS]): continue
        state[WITNESS] = remember(state[WITNESS], content, i)
        for k in woken:
            state[k] = step(state[k], i)
            if emits(k, state[k]): out.append(((i, k), state[k]))
    return tuple(out)

class Rules:
    writer_in_key = True      # checkpoint records of different writers do not overwrite each other
    greatest_applied = True   # restore takes the greatest applied offset, not the last written
    outputs_first = True      # outputs durable before states
    states_first = True       # states durable before the position
    skip_applied = True       # a key skips what its restored state has applied
    key_in_origin = True      # origin is (offset, key), not (offset, count of outputs)
    strict_reader = True      # accepts only a greater origin
    first_offset = True       # the witness answers by the first offset, not by what it knows when it is asked
    in_order = True           # one owner's outputs reach the log in origin order
    compaction = "any moment"  # or "at once": fewer states, enough where writers' records do not overwrite each other

def restore(topic, rules):
    states, position = [(-1, value) for value in empty()], 0
    for kind, key, _writer, applied, value in topic:
        if kind == "pos": position = max(position, applied)
        elif not rules.greatest_applied or applied > states[key][0]: states[key] = (applied, value)
    return tuple(states), position

def process(journal, states, position, size, rules):
    """One batch: new states, new position, outputs to flush, states to checkpoint."""
    states, out, changed = list(states), [], set()
    for i in range(position, min(position + size, len(journal))):
        n, (woken, content) = 0, journal[i]
        applied, seen = states[WITNESS]
        known = content in dict(seen)
        if not rules.skip_applied or applied < i:
            states[WITNESS] = (i, remember(seen, content, i))
            changed.add(WITNESS)
        novel = dict(states[WITNESS][1])[content] == i if rules.first_offset else not known
        for k in woken:
            applied, value = states[k]
            if rules.skip_applied and applied >= i: continue
            changed.add(k)
            if not novel:
                states[k] = (i, value)
                continue
            value = step(value, i)
            states[k] = (i, value)
            if emits(k, value):
                out.append(((i, k if rules.key_in_origin else n), value))
                n += 1
    return tuple(states), min(position + size, len(journal)), tuple(out), tuple(sorted(changed))

def plan(writer, states, position, out, changed, rules):
    """The writes of a batch, in the order in which they must become durable."""
    if not rules.in_order: out = tuple(reversed(out))
    outs = tuple(("out", o) for o in out)
    sts = tuple(("state", ("st", k, writer if rules.writer_in_key else 0, *states[k])) for k in changed)
    pos = (("state", ("pos", 0, writer if rules.writer_in_key else 0, position, 0)),)
    tail = sts + pos if rules.states_first else pos + sts
    return outs + tail if rules.outputs_first else tail + outs

def read(want, accepted, record, rules):
    """How many outputs a reader has accepted after this record; None when an invariant breaks."""
    if record not in want: return None  # a repeat that differs
    last = want[accepted - 1][0] if accepted else (-1, -1)
    if record[0] <= last: return accepted if rules.strict_reader else None  # refused, or accepted twice
    return accepted + 1 if record == want[accepted] else None  # else: one was skipped

def compact(topic):
    latest = {}
    for i, r in enumerate(topic): latest[r[:3]] = i
    return tuple(topic[i] for i in sorted(latest.values()))

def explore(rules, journal, owners=2, lives=2, sizes=(1, 3), limit=4_000_000):
    """(states seen, the writes that led to a violation or None). An owner is (writer, states, position, writes pending), with the starts that it has left."""
    want = truth(journal)
    start = (0, (), tuple((None, lives) for _ in range(owners)))
    seen, queue = {start: None}, deque([start])
    while queue:
        here = queue.popleft()
        accepted, topic, procs = here
        nexts = []
        for n, (proc, left) in enumerate(procs):
            put = lambda p, l, o=accepted, t=topic, why="": nexts.append((why, (o, t, procs[:n] + ((p, l),) + procs[n + 1:])))
            if left:  # starts, for the first time or after a crash: what was in memory is lost
                put((n * 10 + left, *restore(topic, rules), ()), left - 1, why=f"owner {n} starts")
            if proc:
                writer, states, position, pending = proc
                if pending:
                    (kind, what), rest = pending[0], (writer, states, position, pending[1:])
                    if kind == "out": put(rest, left, read(want, accepted, what, rules), why=f"owner {n} emits {what}")
                    else: put(rest, left, t=compact(topic + (what,)) if rules.compaction == "at once" else topic + (what,), why=f"owner {n} writes {what}")
                elif position < len(journal):
                    for size in sizes:
                        s, p, o, c = process(journal, states, position, size, rules)
                        put((writer, s, p, plan(writer, s, p, o, c, rules)), left, why=f"owner {n} processes {position}..{p}")
        if rules.compaction == "any moment" and (c := compact(topic)) != topic: nexts.append(("compaction", (accepted, c, procs)))
        for why, state in nexts:
            if state[0] is None: return len(seen), trail(seen, here) + [why]
            if state not in seen:
                seen[state] = (here, why)
                queue.append(state)
        if len(seen) > limit: return len(seen), ["not finished"]
    return len(seen), None

def trail(seen, state):
    steps = []
    while seen[state]: state, why = seen[state]; steps.append(why)
    return steps[::-1]

if __name__ == "__main__":
    n, found = explore(type("All", (Rules,), {"compaction": "at once"}), SHORT)
    print(f"all rules: {n} states, {'all of them hold' if found is None else ' / '.join(found)}", flush=True)
    for off in [r for r in vars(Rules) if not r.startswith("_") and r != "compaction"]:
        n, found = explore(type("Without", (Rules,), {off: False}), LONG)
        print(f"without {off}: {n} states, {'holds' if found is None else ' / '.join(found)}", flush=True)
