/**
 * The invariants that every defect of plane-switching code known to this project breaks. `engine`: checked here for every
 * machine; `hook`: only a guest interface, a processor or a test knows what is right, and fills the hook of that name.
 */
export interface InvariantRow {
  readonly id: string;
  readonly statement: string;
  readonly where: 'engine' | 'hook';
  /** Who can fill the hook; for rows of the engine, where it looks. */
  readonly by: string;
}

export const invariantTable = [
  { id: 'I-ONE', statement: 'one running plane per VP, one context per register bank; a stopped or removed context is never entered', where: 'engine', by: 'after every event' },
  { id: 'I-BANK', statement: 'the private bank of (VP, plane) changes only while it runs or by an authorised write addressed to it', where: 'engine', by: 'after every event' },
  { id: 'I-SHARE', statement: 'shared registers after a switch equal the last value stored by a plane of that VP', where: 'engine', by: 'at every switch and after every event' },
  { id: 'I-ADDR', statement: 'an operation changes only the (VP, plane) it names; masks name only planes that exist and agree with schedules', where: 'engine', by: 'after every event' },
  { id: 'I-IRQ', statement: 'no event is lost: accepted = delivered + merged + pending + discarded by a named reset', where: 'engine', by: 'after every event' },
  { id: 'I-DUP', statement: 'no event, message or sequence number is consumed twice', where: 'engine', by: 'after every event; messages by a guest interface' },
  { id: 'I-WAKE', statement: 'no VP sleeps and no caller waits while deliverable work exists', where: 'engine', by: 'after every event and when a machine is idle' },
  { id: 'I-LIVE', statement: 'a bounded number of exits, switches or steps without progress', where: 'engine', by: 'after every event' },
  { id: 'I-PERM', statement: 'the effective permission is never above the intersection of grants', where: 'engine', by: 'audit of guest memory' },
  { id: 'I-GRANT', statement: 'a permission, and each mirror of it, equals the value recomputed from history; never below the grant', where: 'hook', by: 'guest interface' },
  { id: 'I-TLB', statement: 'when a revocation or flush returns, no access through the old state can follow', where: 'engine', by: 'after every event; cached translations by a processor' },
  { id: 'I-PRIV', statement: 'a lower plane cannot read or write the state of a higher one, nor choose it', where: 'hook', by: 'guest interface' },
  { id: 'I-LEAK', statement: 'no byte of a higher plane or a previous owner reaches a lower plane', where: 'hook', by: 'guest interface' },
  { id: 'I-STAT', statement: 'status and result words are those of the specification, the order of checks included', where: 'hook', by: 'guest interface' },
  { id: 'I-ATOM', statement: 'a failed call leaves no trace; partial success is reported exactly', where: 'hook', by: 'guest interface' },
  { id: 'I-ENUM', statement: 'advertised features are the implemented ones', where: 'hook', by: 'guest interface' },
  { id: 'I-SAFE', statement: 'no input of a guest or of the other side stops the host', where: 'engine', by: 'every error that leaves a run' },
  { id: 'I-BOUND', statement: 'every index and length is checked against the real object', where: 'hook', by: 'guest interface' },
  { id: 'I-FETCH', statement: 'input shared with another party is read once', where: 'hook', by: 'guest interface, at preemption points' },
  { id: 'I-LIN', statement: 'concurrent calls have an explaining serial order', where: 'hook', by: 'exploration of interleavings' },
  { id: 'I-RESET', statement: 'a reset context equals a fresh one', where: 'engine', by: 'at every reset of a plane: nothing pending, nothing waited for' },
  { id: 'I-SNAP', statement: 'a restored machine goes on like the saved one', where: 'hook', by: 'random cut points' },
] as const satisfies readonly InvariantRow[];

/** Ids of the table. */
export type InvariantId = (typeof invariantTable)[number]['id'];
