import { Activity, engineInvariants, type EventBalance, HostError, InvariantChecks, type InvariantMemo, type PlaneContext, Schedule, Sharing } from '@vmplanes/engine';
import { describe, expect, it } from 'vitest';
import { type Toy, type ToyConfig, toyOf } from './toy.ts';

// Two words each, so that the first and the last word of every register are told apart.
const registers = [
  { name: 'own', offset: 0, size: 8 },
  { name: 'all', offset: 8, size: 8 },
  { name: 'irr', offset: 16, size: 4, groups: ['events'] },
  { name: 'scratch', offset: 20, size: 4, architectural: false },
  { name: 'own2', offset: 24, size: 8 },
  { name: 'all2', offset: 40, size: 8 },
  { name: 'own3', offset: 48, size: 4 },
];
const machineOf = (config: Partial<ToyConfig> = {}): Toy => {
  const toy = toyOf({ registers, planes: [[0, 2], [0, 2]], ...config });
  toy.machine.sharing = new Sharing(toy.machine.arch.layout, { shared: ['all', 'all2'] });
  return toy;
};
const check = (toy: Toy, id: string, memo: Partial<InvariantMemo> = {}): readonly string[] =>
  engineInvariants.find((i) => i.id === id)!.check(toy.machine, { blocks: new Map(), bank: null, shared: null, idle: new Map(), ran: null, authorised: new Set(), told: [], untilAudit: 1, ...memo });
const word = (c: PlaneContext, offset: number): number => (c.base + offset) >>> 2;
const flip = (toy: Toy, c: PlaneContext, offset: number): void => void (toy.machine.arena.u32[word(c, offset)]! ^= 1);
const balanced = (toy: Toy, vp: number, plane: number, balance: EventBalance): void => void Object.assign(toy.events(vp, plane), { balance: () => balance });
const broken = (act: () => unknown): string => {
  try {
    act();
    return 'holds';
  } catch (error) {
    return error instanceof HostError ? `${error.code} ${error.message}` : 'other';
  }
};

describe('I-ONE', () => {
  it('a VP outside a run, and one that runs its current plane, hold', () => {
    const toy = machineOf();
    expect(check(toy, 'I-ONE')).toEqual([]);
    toy.vps[0]!.running = 0;
    expect(check(toy, 'I-ONE')).toEqual([]);
  });
  it('a plane that is not there, plane 0 and another with the registers of a third', () => {
    const toy = machineOf();
    toy.vps[0]!.running = 1;
    toy.vps[1]!.running = 2;
    expect(check(toy, 'I-ONE')).toEqual(['VP 0 runs plane 1, which it has not', 'VP 1 runs plane 2 with the registers of plane 0']);
    toy.vps[0]!.running = 0;
    toy.vps[0]!.current = 2;
    toy.vps[1]!.running = -1;
    expect(check(toy, 'I-ONE')).toEqual(['VP 0 runs plane 0 with the registers of plane 2']);
  });
  it('names both owners of a register bank', () => {
    const toy = machineOf();
    Object.assign(toy.vps[1]!.plane(2), { base: toy.vps[0]!.plane(0).base });
    expect(check(toy, 'I-ONE')).toEqual(['VP 1 plane 2 has the register bank of VP 0 plane 0']);
  });
});

describe('I-BANK and I-SHARE', () => {
  it.each([
    ['own', 0], ['own', 4], ['own2', 24], ['own2', 28], ['own3', 48],
  ] as const)('private %s, word at %i, of a plane that did not run', (name, offset) => {
    const toy = machineOf();
    const checks = new InvariantChecks(toy.machine);
    flip(toy, toy.vps[0]!.plane(2), offset);
    expect(broken(() => checks.afterEvent(toy.vps[0]!.plane(0)))).toBe(`Invariant I-BANK: VP 0 plane 2: ${name} changed while it did not run`);
  });
  it.each([
    ['all', 8], ['all', 12], ['all2', 40], ['all2', 44],
  ] as const)('shared %s, word at %i: of a VP that did not run; lost in a switch', (name, offset) => {
    const toy = machineOf();
    const checks = new InvariantChecks(toy.machine);
    flip(toy, toy.vps[1]!.plane(0), offset);
    expect(broken(() => checks.afterEvent(toy.vps[0]!.plane(0)))).toBe(`Invariant I-SHARE: VP 1: the shared ${name} changed while none of its planes ran`);
    expect(broken(() => checks.afterSwitch(toy.vps[1]!.plane(0), toy.vps[1]!.plane(2)))).toBe(`Invariant I-SHARE: VP 1 plane 2: the shared ${name} is not what plane 0 left`);
  });
  it('every register that changed is named', () => {
    const toy = machineOf();
    const checks = new InvariantChecks(toy.machine);
    for (const offset of [4, 28, 48]) flip(toy, toy.vps[1]!.plane(2), offset);
    expect(broken(() => checks.afterEvent(toy.vps[0]!.plane(0)))).toBe('Invariant I-BANK: VP 1 plane 2: own changed while it did not run; VP 1 plane 2: own2 changed while it did not run; VP 1 plane 2: own3 changed while it did not run');
    const other = machineOf();
    const again = new InvariantChecks(other.machine);
    for (const offset of [8, 44]) flip(other, other.vps[1]!.plane(0), offset);
    expect(broken(() => again.afterEvent(other.vps[0]!.plane(0)))).toBe('Invariant I-SHARE: VP 1: the shared all changed while none of its planes ran; VP 1: the shared all2 changed while none of its planes ran');
  });
  it('event state, scratch and what lies between registers may change; so may the one that ran, and the shared ones of its VP', () => {
    const toy = machineOf();
    const checks = new InvariantChecks(toy.machine);
    for (const offset of [16, 20, 32, 36, 52, 60]) flip(toy, toy.vps[1]!.plane(2), offset);
    for (const offset of [0, 24, 48]) flip(toy, toy.vps[0]!.plane(0), offset);
    for (const offset of [8, 44]) for (const p of [0, 2]) flip(toy, toy.vps[0]!.plane(p), offset);
    expect(broken(() => checks.afterEvent(toy.vps[0]!.plane(0)))).toBe('holds');
    expect(broken(() => checks.afterSwitch(toy.vps[0]!.plane(0), toy.vps[0]!.plane(2)))).toBe('holds');
  });
  it('an authorised write holds for one event; what the VMM wrote, and what was restored, is taken as it is', () => {
    const toy = machineOf();
    const checks = new InvariantChecks(toy.machine);
    const [ran, other] = [toy.vps[0]!.plane(0), toy.vps[1]!.plane(0)];
    checks.authorise(other);
    for (const offset of [0, 8]) flip(toy, other, offset);
    expect(broken(() => checks.afterEvent(ran))).toBe('holds');
    expect(broken(() => checks.afterEvent(ran))).toBe('holds');
    flip(toy, other, 0);
    checks.outside();
    expect(broken(() => checks.afterEvent(ran))).toBe('holds');
    checks.authorise(other);
    checks.adopt();
    flip(toy, other, 0);
    expect(broken(() => checks.afterEvent(ran))).toBe('Invariant I-BANK: VP 1 plane 0: own changed while it did not run');
  });
  it('follows another declaration of what is shared', () => {
    const toy = machineOf();
    const checks = new InvariantChecks(toy.machine);
    const [ran, other] = [toy.vps[0]!.plane(0), toy.vps[1]!.plane(0)];
    expect(broken(() => checks.afterEvent(ran))).toBe('holds');
    toy.machine.sharing = new Sharing(toy.machine.arch.layout, { shared: ['own'] });
    flip(toy, other, 0);
    expect(broken(() => checks.afterEvent(ran))).toBe('Invariant I-SHARE: VP 1: the shared own changed while none of its planes ran');
    checks.outside();
    flip(toy, other, 8);
    expect(broken(() => checks.afterEvent(ran))).toBe('Invariant I-BANK: VP 1 plane 0: all changed while it did not run');
    checks.outside();
    flip(toy, other, 4);
    expect(broken(() => checks.afterSwitch(other, toy.vps[1]!.plane(2)))).toContain('the shared own is not');
  });
  it('a VP without a current plane, and contexts nothing is known of, say nothing', () => {
    const toy = machineOf();
    toy.vps[0]!.current = 1;
    expect(check(toy, 'I-SHARE')).toEqual([]);
    expect(check(toy, 'I-BANK')).toEqual([]);
    expect(check(machineOf(), 'I-SHARE')).toEqual([]);
  });
});

describe('I-ADDR', () => {
  it('holds for planes 0 and 2', () => expect(check(machineOf(), 'I-ADDR')).toEqual([]));
  it('a current plane, pending planes and planes of the mask that are not there', () => {
    const toy = machineOf();
    const vp = toy.vps[1]!;
    vp.current = 1;
    vp.pending = 0b1010;
    expect(check(toy, 'I-ADDR')).toEqual(['VP 1: its current plane 1 does not exist', 'VP 1: pending mask 1010 names a plane it has not']);
    vp.current = 0;
    vp.pending = 0b100;
    vp.existing = 0b1001;
    expect(check(toy, 'I-ADDR')).toEqual(['VP 1: pending mask 100 names a plane it has not', 'VP 1: plane 2 and the mask of planes disagree', 'VP 1: plane 3 and the mask of planes disagree']);
  });
  it('the first and the last plane count', () => {
    const toy = machineOf();
    toy.vps[0]!.existing = 0b100 | (1 << 15);
    expect(check(toy, 'I-ADDR')).toEqual(['VP 0: plane 0 and the mask of planes disagree', 'VP 0: plane 15 and the mask of planes disagree']);
  });
  it('schedules and the runnable mask, both ways', () => {
    const toy = machineOf();
    const vp = toy.vps[0]!;
    vp.plane(0).schedule = Schedule.Runnable;
    vp.plane(2).schedule = Schedule.Stopped;
    vp.runnable = 0b100;
    expect(check(toy, 'I-ADDR')).toEqual(['VP 0 plane 0: schedule and runnable mask disagree', 'VP 0 plane 2: schedule and runnable mask disagree']);
  });
});

describe('I-IRQ and I-DUP', () => {
  const sound = { accepted: 15, delivered: 1, merged: 2, pending: 4, discarded: 8 };
  it.each([
    ['even', {}, null],
    ['one lost', { accepted: 16 }, 'I-IRQ'], ['one delivery lost', { delivered: 0 }, 'I-IRQ'], ['one merged lost', { merged: 1 }, 'I-IRQ'], ['one pending lost', { pending: 3 }, 'I-IRQ'], ['one discarded lost', { discarded: 7 }, 'I-IRQ'],
    ['one more than accepted', { accepted: 14 }, 'I-DUP'], ['delivered twice', { delivered: 2 }, 'I-DUP'], ['merged twice', { merged: 3 }, 'I-DUP'], ['pending twice', { pending: 5 }, 'I-DUP'], ['discarded twice', { discarded: 9 }, 'I-DUP'],
    ['even, the count went around', { accepted: 2, delivered: 0xffff_fff4 }, null], ['lost, the count went around', { accepted: 3, delivered: 0xffff_fff4 }, 'I-IRQ'], ['twice, the count went around', { accepted: 1, delivered: 0xffff_fff4 }, 'I-DUP'],
  ] as const)('%s', (_name, change, id) => {
    const toy = machineOf();
    const b = { ...sound, ...change };
    balanced(toy, 1, 2, b);
    expect(check(toy, 'I-IRQ')).toEqual(id === 'I-IRQ' ? [`VP 1 plane 2: ${b.accepted} events accepted, but ${b.delivered} delivered + ${b.merged} merged + ${b.pending} pending + ${b.discarded} discarded`] : []);
    expect(check(toy, 'I-DUP')).toEqual(id === 'I-DUP' ? [`VP 1 plane 2: ${b.delivered} delivered + ${b.merged} merged + ${b.pending} pending + ${b.discarded} discarded are more than the ${b.accepted} events accepted`] : []);
  });
});

describe('I-WAKE', () => {
  it('the pending bit is what is deliverable, under that rule alone', () => {
    for (const rule of ['deliverable', 'irr'] as const) {
      const toy = machineOf({ rule });
      toy.events(0, 2).isDeliverable = true;
      toy.vps[1]!.pending = 0b100;
      expect(check(toy, 'I-WAKE')).toEqual(rule === 'irr' ? [] : ['VP 0 plane 2: pending bit false, but deliverable true', 'VP 1 plane 2: pending bit true, but deliverable false']);
      toy.vps[0]!.pending = 0b100;
      toy.vps[1]!.pending = 0;
      expect(check(toy, 'I-WAKE')).toEqual([]);
    }
  });
  const idle = (prepare: (toy: Toy) => void, config: Partial<ToyConfig> = {}): string => {
    const toy = machineOf(config);
    prepare(toy);
    return broken(() => new InvariantChecks(toy.machine).atIdle());
  };
  const held = (toy: Toy, at: number): PlaneContext => {
    return Object.assign(toy.vps[1]!.context, { activity: Activity.Held, wait: { kind: 'time', at } });
  };
  it('a held plane whose time has come, or whose reset waits', () => {
    expect(idle(() => {})).toBe('holds');
    expect(idle((toy) => void held(toy, 0))).toBe('Invariant I-WAKE: VP 1 plane 0 waits for what has come');
    expect(idle((toy) => void held(toy, 9))).toBe('holds');
    expect(idle((toy) => void (held(toy, 9), (toy.events(1, 0).isResetting = true)))).toBe('Invariant I-WAKE: VP 1 plane 0 waits for what has come');
    expect(idle((toy) => void (toy.events(1, 0).isResetting = true))).toBe('holds');
    expect(idle((toy) => void (held(toy, 0), (toy.vps[1]!.suspended = true)))).toBe('holds');
    expect(idle((toy) => void (held(toy, 0), (toy.vps[1]!.immediateExit = true)))).toBe('holds');
  });
  it('a timer, an event of the current plane, events that were asked about', () => {
    expect(idle((toy) => void (toy.vps[1]!.deadline = 77))).toBe('Invariant I-WAKE: VP 1 sleeps with a timer set');
    const waking = (runnable: number) => idle((toy) => void ((toy.events(1, 0).isWaking = true), (toy.vps[1]!.runnable = runnable)));
    expect(waking(0b1)).toBe('Invariant I-WAKE: VP 1 plane 0 sleeps over an event of its own');
    expect(waking(0b100)).toBe('holds');
    const asked = (pending: number, about: number, options: ToyConfig['options'] = {}) => idle((toy) => void Object.assign(toy.vps[1]!, { pending, asked: about }), { options: { eventCheck: 'first', ...options } });
    expect(asked(0b100, 0b101)).toBe('Invariant I-WAKE: VP 1 sleeps over events of planes 100, which were asked about');
    expect(asked(0b100, 0b001)).toBe('holds');
    expect(asked(0b001, 0b001)).toBe('holds');
    expect(asked(0b100, 0b100, { eventCheck: 'entry' })).toBe('holds');
    expect(idle((toy) => {
      toy.machine.addPersonality({ name: 'p', stateName: 'p', stateVersion: 1, claims: [], handle: () => null, planeEvent: () => null, save: () => null, restore() {} });
      Object.assign(toy.vps[1]!, { pending: 0b100, asked: 0b100 });
    }, { options: { eventCheck: 'first' } })).toBe('holds');
  });
});

describe('I-LIVE', () => {
  it('the exit that makes 10000 in a row too many; a retired instruction or a VM exit starts again', () => {
    const toy = machineOf();
    const vp = toy.vps[1]!;
    const memo = { idle: new Map(), ran: vp.context };
    const exits = (n: number) => {
      let found: readonly string[] = [];
      for (let i = 0; i < n && found.length === 0; i++) found = check(toy, 'I-LIVE', memo);
      return found;
    };
    const limit = ['VP 1: 10000 exits in a row without a retired instruction'];
    // The first sets the mark, the next 10000 are the row.
    expect(exits(10_001)).toEqual([]);
    expect(exits(1)).toEqual(limit);
    for (const move of [() => vp.retired++, () => vp.statistics.vmExits++]) {
      move();
      expect(exits(10_001)).toEqual([]);
      expect(exits(1)).toEqual(limit);
    }
    expect(check(toy, 'I-LIVE', { idle: memo.idle, ran: toy.vps[0]!.context })).toEqual([]);
    expect(check(toy, 'I-LIVE', { idle: memo.idle })).toEqual([]);
  });
});

describe('I-PERM, I-TLB and I-STATE', () => {
  it.each([[255, 1], [256, 1], [257, 256]])('guest memory of %i frames is audited at every %i-th event', (pages, every) => {
    const toy = machineOf({ options: { memoryBytes: pages * 4096 } });
    const { memory } = toy.machine;
    expect(memory.frames.count).toBe(pages);
    Object.defineProperty(memory.backings, 'owed', { value: 7 });
    const memo: InvariantMemo = { blocks: new Map(), bank: null, shared: null, idle: new Map(), ran: null, authorised: new Set(), told: [], untilAudit: 1 };
    const audit = () => engineInvariants.find((i) => i.id === 'I-PERM')!.check(toy.machine, memo).length;
    expect(audit()).toBe(1);
    for (let i = 1; i < every; i++) expect(audit()).toBe(0);
    expect(audit()).toBe(1);
  });
  it('observers are told of each generation of the permissions of each plane', () => {
    const toy = machineOf();
    const told = toy.machine.memory.permissions.map((p) => p.generation);
    expect(check(toy, 'I-TLB', { told })).toEqual([]);
    told[2]!++;
    expect(check(toy, 'I-TLB', { told })).toEqual(['plane 2: permissions changed and nobody who caches translations was told']);
  });
  it('a wait without a held plane, a held plane without a wait', () => {
    const toy = machineOf();
    expect(check(toy, 'I-STATE')).toEqual([]);
    toy.vps[0]!.plane(2).wait = { kind: 'key', key: 'k' };
    toy.vps[1]!.plane(2).activity = Activity.Held;
    expect(check(toy, 'I-STATE')).toEqual(['VP 0 plane 2: activity and wait condition disagree', 'VP 1 plane 2: activity and wait condition disagree']);
  });
});

describe('the checks of a machine', () => {
  it('counts each: 11 of the engine after an event, then each hook; one for a switch, idleness, an entry, a reset', () => {
    const toy = machineOf();
    const checks = new InvariantChecks(toy.machine);
    const c = toy.vps[0]!.context;
    checks.afterEvent(c);
    expect(checks.count).toBe(11);
    checks.fill('I-GRANT', 'one', () => []);
    checks.fill('I-GRANT', 'two', () => []);
    checks.fill('I-PERM', 'three', () => []);
    checks.afterEvent(c);
    expect(checks.count).toBe(25);
    checks.afterSwitch(c, toy.vps[0]!.plane(2));
    checks.atIdle();
    checks.afterReset(c, 'fresh');
    toy.vps[0]!.setSchedule(c, Schedule.Runnable);
    checks.entering(c);
    expect(checks.count).toBe(29);
    const table = Object.fromEntries(checks.table().map((r) => [r.id, r.checkedBy]));
    expect([table['I-GRANT'], table['I-PERM'], table['I-SNAP']]).toEqual([['one', 'two'], ['engine', 'three'], []]);
  });
  it('one given list of invariants is the list; the second sentence is kept; personalities are asked last', () => {
    const toy = machineOf();
    const c = toy.vps[0]!.context;
    expect(broken(() => new InvariantChecks(toy.machine, [{ id: 'I-X', check: () => ['a', 'b'] }]).afterEvent(c))).toBe('Invariant I-X: a; b');
    const found: string[] = [];
    toy.machine.addPersonality({ name: 'p', stateName: 'p', stateVersion: 1, claims: [], handle: () => null, checkInvariants: () => found, save: () => null, restore() {} });
    const checks = new InvariantChecks(toy.machine);
    expect(broken(() => checks.afterEvent(c))).toBe('holds');
    found.push('x', 'y');
    expect(broken(() => checks.afterEvent(c))).toBe('Invariant p: x; y');
    checks.fill('I-GRANT', 'one', () => ['z']);
    expect(broken(() => checks.afterEvent(c))).toBe('Invariant I-GRANT: z');
  });
  it('an entered plane may change its own bank, and must be runnable', () => {
    const toy = machineOf();
    const checks = new InvariantChecks(toy.machine);
    const c = toy.vps[1]!.plane(0);
    toy.vps[1]!.setSchedule(c, Schedule.Runnable);
    checks.entering(c);
    flip(toy, c, 0);
    expect(broken(() => checks.afterEvent(toy.vps[0]!.context))).toBe('holds');
    toy.vps[1]!.setSchedule(c, Schedule.Stopped);
    expect(broken(() => checks.entering(c))).toBe('Invariant I-ONE: VP 1 plane 0 is entered, but is stopped');
  });
  it('a restored machine starts its row of idle exits again', () => {
    const toy = machineOf();
    const checks = new InvariantChecks(toy.machine, engineInvariants.filter((i) => i.id === 'I-LIVE'));
    const run = (n: number) => broken(() => {
      for (let i = 0; i < n; i++) checks.afterEvent(toy.vps[0]!.context);
    });
    expect(run(10_001)).toBe('holds');
    checks.adopt();
    expect(run(10_001)).toBe('holds');
    expect(run(1)).toContain('I-LIVE');
  });
  it('translations of all planes, or permissions of one, are told', () => {
    const toy = machineOf();
    const { memory } = toy.machine;
    const checks = new InvariantChecks(toy.machine);
    memory.addSlot({ id: 0, gpa: 0, size: 4096 });
    memory.permissions[2]!.set(0, 1, 1);
    expect(broken(() => checks.afterEvent(toy.vps[0]!.context))).toBe('holds');
  });
  it.each([
    ['pending events, fresh reset', 'fresh', (toy: Toy): void => balanced(toy, 0, 2, { accepted: 1, delivered: 0, merged: 0, pending: 1, discarded: 0 }), '1 events are pending after a reset'],
    ['pending events, another reset', 'warm', (toy: Toy): void => balanced(toy, 0, 2, { accepted: 1, delivered: 0, merged: 0, pending: 1, discarded: 0 }), null],
    ['requests', 'warm', (toy: Toy): void => void (toy.events(0, 2).isRequested = true), 'interrupts are requested after a reset'],
    ['a timer', 'warm', (toy: Toy): void => void (toy.events(0, 2).at = 5), 'a timer is set after a reset'],
    ['a completion', 'warm', (toy: Toy): void => void (toy.vps[0]!.plane(2).completion = { owner: 'arch', kind: 'x', data: {}, reply: null }), 'work is left after a reset'],
    ['a wait', 'warm', (toy: Toy): void => void (toy.vps[0]!.plane(2).wait = { kind: 'key', key: 'k' }), 'work is left after a reset'],
    ['nothing', 'fresh', () => {}, null],
  ] as const)('left after a reset: %s', (_name, kind, leave: (toy: Toy) => void, sentence) => {
    const toy = machineOf();
    leave(toy);
    expect(broken(() => new InvariantChecks(toy.machine).afterReset(toy.vps[0]!.plane(2), kind))).toBe(sentence === null ? 'holds' : `Invariant I-RESET: VP 0 plane 2: ${sentence}`);
  });
  it('errors that the VMM, a script, a trace or a check causes pass; every other one is a guest that stopped the host', () => {
    const toy = machineOf();
    const checks = new InvariantChecks(toy.machine);
    for (const code of ['BadState', 'BadScript', 'BadSnapshot', 'BadTrace', 'Divergence', 'Invariant'] as const) {
      const error = new HostError(code, 'x');
      expect(checks.escaped(toy.vps[1]!, error), code).toBe(error);
    }
    for (const error of [new HostError('NoSuchPlane', 'gone'), new RangeError('gone'), 'gone']) {
      expect(checks.escaped(toy.vps[1]!, error)).toMatchObject({ code: 'Invariant', message: expect.stringContaining('I-SAFE: VP 1 stopped the host: ') as string });
      expect(String((checks.escaped(toy.vps[1]!, error) as Error).message)).toContain('gone');
    }
  });
});
