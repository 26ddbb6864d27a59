import { ALL_RIGHTS, HostError, invariantTable, type PendingRule, type SchedulerPolicy, Sharing, UserspacePolicy } from '@vmplanes/engine';
import { ApicFlag, ApicReg, X86Arch } from '@vmplanes/x86';
import { describe, expect, it } from 'vitest';
import { calls, type Rig, type RigConfig, rigOf, risingPlanes } from './rig.ts';

const hlt = { op: 'hlt' } as const;
const work = { op: 'work' } as const;
const call = { op: 'call' } as const;
const loop = { op: 'jump', to: 0 } as const;

/** Runs until a check fires. @returns the id of the invariant that does not hold, or how the run ended. */
const verdict = (rig: Rig, slices = 20): string => {
  try {
    for (let i = 0; i < slices; i++) {
      const stop = rig.run(1);
      if (stop.kind !== 'slices') return stop.kind;
    }
  } catch (error) {
    if (error instanceof HostError && error.code === 'Invariant') return String(error.details['id'] ?? error.details['personality']);
    throw error;
  }
  return 'holds';
};

/** Two planes that call each other, on two VPs. */
const pair = (config: Partial<RigConfig> = {}): Rig =>
  rigOf({
    meaning: risingPlanes,
    claims: calls,
    on: (c) => c.vp.replies.switchTo(1 - c.plane, 'call', 'stopped'),
    guests: [
      { 0: [{ op: 'work', regs: { tscAux: 7, cr2: 0x1234, xmm0: 5 } }, call, loop], 1: [{ op: 'work', regs: { tscAux: 0x51, cr2: 0x99, xmm0: 6 } }, call, loop] },
      { 0: [work, loop], 1: [] },
    ],
    ...config,
  });
const copying = (rig: Rig, change: (names: string[]) => string[]): void => {
  const { layout } = rig.arch;
  const names = change(layout.registers.filter((r) => rig.machine.sharing.isShared(r.name)).map((r) => r.name));
  Object.defineProperty(rig.machine.sharing, 'ranges', { value: new Sharing(layout, { shared: names }).ranges });
};
/** A handler that does something wrong once, on VP 0. */
const once = (wrong: (rig: Rig) => void, config: Partial<RigConfig> = {}): Rig => {
  let done = false;
  const rig: Rig = pair({
    on: (c) => {
      if (!done) wrong(rig);
      done = true;
      return c.vp.replies.resume();
    },
    ...config,
  });
  return rig;
};

describe('the table of invariants', () => {
  it('has 22 rows; each is checked by the engine or has a hook that others fill', () => {
    const rig = pair();
    const checks = rig.machine.checks!;
    checks.fill('I-GRANT', 'test', () => []);
    const table = checks.table();
    expect(table.map((r) => r.id)).toEqual(['I-ONE', 'I-BANK', 'I-SHARE', 'I-ADDR', 'I-IRQ', 'I-DUP', 'I-WAKE', 'I-LIVE', 'I-PERM', 'I-GRANT', 'I-TLB', 'I-PRIV', 'I-LEAK', 'I-STAT', 'I-ATOM', 'I-ENUM', 'I-SAFE', 'I-BOUND', 'I-FETCH', 'I-LIN', 'I-RESET', 'I-SNAP']);
    for (const row of table) expect(row.checkedBy, row.id).toEqual(row.where === 'engine' ? ['engine'] : row.id === 'I-GRANT' ? ['test'] : []);
    expect(new Set(invariantTable.map((r) => r.statement)).size).toBe(22);
    expect(verdict(rig)).toBe('holds');
    expect(checks.count).toBeGreaterThan(100);
  });

  it.each(invariantTable.filter((r) => r.where === 'hook').map((r) => [r.id] as const))('%s: what fills its hook is heard', (id) => {
    const rig = pair();
    rig.machine.checks!.fill(id, 'test', () => (rig.vps[0]!.retired > 20 ? ['something is wrong'] : []));
    expect(verdict(rig)).toBe(id);
  });

  it('costs nothing while checks are off: the defects go unseen', () => {
    const rig = pair({ checked: false });
    copying(rig, (names) => [...names, 'tscAux']);
    expect(verdict(rig)).toBe('holds');
  });
});

describe('seeded defects are caught by the invariant named for them', () => {
  it('TSC_AUX copied at a switch: I-BANK (OpenVMM #177)', () => {
    const rig = pair();
    copying(rig, (names) => [...names, 'tscAux']);
    expect(verdict(rig)).toBe('I-BANK');
  });

  it.each(['cr2', 'xmm0', 'r15'])('%s left out of a switch: I-SHARE (OpenVMM #3584)', (register) => {
    const rig = pair({ guests: [{ 0: [{ op: 'work', regs: { cr2: 1, xmm0: 2, r15: 3 } }, call, loop], 1: [{ op: 'work', regs: { cr2: 4, xmm0: 5, r15: 6 } }, call, loop] }] });
    copying(rig, (names) => names.filter((n) => n !== register));
    expect(verdict(rig)).toBe('I-SHARE');
  });

  it('a handler writes a shared register of another VP: I-SHARE (litebox #583)', () => {
    expect(verdict(once((rig) => void (rig.machine.arena.u32[(rig.vps[1]!.context.base + 0x18) >>> 2]! ^= 0xff)))).toBe('I-SHARE');
  });

  it('the bank of another VP is registered for a plane: I-ONE (OpenVMM #1307, #1368)', () => {
    expect(verdict(once((rig) => void Object.assign(rig.vps[1]!.plane(1), { base: rig.vps[0]!.plane(1).base })))).toBe('I-ONE');
  });

  it('a stopped plane is entered: I-ONE (KVM 72d12715edcd)', () => {
    class Careless extends UserspacePolicy implements SchedulerPolicy {
      override select(vp: Parameters<UserspacePolicy['select']>[0]): number {
        return vp.named;
      }
    }
    const rig = pair({ policy: new Careless() });
    rig.vps[0]!.named = 1;
    expect(verdict(rig)).toBe('I-ONE');
  });

  it('a reset for one plane resets another, or the local APIC of all: I-BANK, I-IRQ (COCONUT-SVSM #378)', () => {
    expect(verdict(once((rig) => {
      rig.set(0, 1, 'lstar', 5n);
      rig.machine.checks!.adopt();
      rig.arch.reset(rig.vps[0]!.plane(1), 'powerOn');
    }))).toBe('I-BANK');
    expect(verdict(once((rig) => {
      rig.msi(0, 1, 0x50);
      rig.arch.apicOf(rig.vps[0]!.plane(1)).block.clearBit(ApicReg.irr, 0x50);
    }, { rule: 'irr', policy: 'userspace' }))).toBe('I-IRQ');
  });

  it('group data hung off a plane, masks that name other planes: I-ADDR (LKML 20250401 review of 10/29; 13/29)', () => {
    expect(verdict(once((rig) => void (rig.vps[1]!.pending |= 0b100)))).toBe('I-ADDR');
    expect(verdict(once((rig) => void (rig.vps[1]!.plane(1).schedule = 1)))).toBe('I-ADDR');
    expect(verdict(once((rig) => void (rig.vps[1]!.existing |= 0b1000)))).toBe('I-ADDR');
  });

  it('staged interrupts dropped by a software disable: I-IRQ (OpenVMM #3839)', () => {
    const rig = pair();
    const apic = rig.arch.apicOf(rig.vps[1]!.plane(0));
    rig.msi(1, 0, 0x61);
    const write = apic.writeSvr.bind(apic);
    apic.writeSvr = (value) => {
      write(value);
      for (let word = 0; word < 8; word++) apic.block.set(ApicReg.irr + word * 16, 0);
    };
    apic.writeSvr(0xff);
    expect(verdict(rig)).toBe('I-IRQ');
  });

  it('an NMI whose flag is not cleared is injected again and again: I-DUP (OpenVMM #908, #1139)', () => {
    const rig = pair();
    const { latches, block } = rig.arch.apicOf(rig.vps[0]!.plane(0));
    const take = latches.take.bind(latches);
    latches.take = (event) => {
      const taken = take(event);
      block.raise(ApicFlag.nmi);
      return taken;
    };
    rig.nmi(0, 0);
    expect(verdict(rig)).toBe('I-DUP');
  });

  const deaf: PendingRule = { name: 'deliverable', accepted() {}, changed() {}, enter() {}, leave() {}, due: () => 0 };
  it('one scan flag for all planes, or none for local deliveries: I-WAKE (OpenVMM #3829, #331)', () => {
    const rig = pair();
    Object.assign(rig.machine, { rule: deaf });
    rig.msi(0, 1, 0x50);
    expect(verdict(rig)).toBe('I-WAKE');
  });

  it('a halted plane does not wake for another one that was asked about: I-WAKE (LKML 20250401 25/29, flaws H1 to H4)', () => {
    const rig = rigOf({ policy: 'userspace', guests: [{ 0: [hlt], 1: [hlt] }] });
    const due = rig.machine.rule.due.bind(rig.machine.rule);
    rig.machine.rule.due = (c) => (c.activity === 0 ? due(c) : 0);
    rig.vps[0]!.asked = 0b10;
    rig.run(1);
    rig.msi(0, 1, 0x50);
    expect(verdict(rig)).toBe('I-WAKE');
  });

  it('a halt is kept although an event of its own is there, a timed wait is forgotten: I-WAKE (OpenVMM #3881)', () => {
    const rig = rigOf({ guests: [{ 0: [{ op: 'sti' }, hlt] }] });
    const { events } = rig.vps[0]!.context;
    rig.run(1);
    const wakes = events.wakes.bind(events);
    let asked = 0;
    events.wakes = () => (asked++ % 2 === 0 ? false : wakes());
    rig.msi(0, 0, 0x40);
    expect(verdict(rig)).toBe('I-WAKE');
  });

  it('planes that preempt each other without end: I-LIVE (LKML 20250401 25/29, run epilogue)', () => {
    const rig = rigOf({ policy: 'userspace', claims: calls, planeEvent: (vp) => { vp.asked = 0b11; return vp.replies.switchTo(1 - vp.current, 'event', 'runnable'); }, guests: [{ 0: [loop], 1: [loop] }] });
    rig.vps[0]!.asked = 0b11;
    rig.msi(0, 0, 0x50);
    rig.msi(0, 1, 0x50);
    expect(verdict(rig)).toBe('I-LIVE');
  });

  it('an effective right above the table of its plane: I-PERM (OpenVMM #1513, #2009)', () => {
    const rig = pair();
    const { memory } = rig.machine;
    memory.addSlot({ id: 0, gpa: 0, size: 8192 });
    memory.permissions[0]!.set(1, 1, 1);
    memory.placeOverlay(0, 1, memory.frameAt(0), 3);
    expect(verdict(rig)).toBe('holds');
    memory.effectiveRights = () => ALL_RIGHTS;
    expect(verdict(rig)).toBe('I-PERM');
  });

  it('a permission changes and no translation is dropped: I-TLB (OpenVMM #1483, #2009)', () => {
    expect(verdict(once((rig) => {
      const table = rig.machine.memory.permissions[0]!;
      table.restore({ ...table.save(), generation: table.generation + 1 });
    }))).toBe('I-TLB');
  });

  it('a reset that forgets a pending NMI, or a request, or a timer: I-RESET (OpenVMM #3984, #4179)', () => {
    for (const [i, leave] of [
      (rig: Rig) => rig.nmi(1, 1),
      (rig: Rig) => void rig.msi(1, 1, 0x44),
      (rig: Rig) => {
        const { timer } = rig.arch.apicOf(rig.vps[1]!.plane(1));
        timer.writeLvt(0x40);
        timer.writeInitialCount(1000);
      },
    ].entries()) {
      const rig = once((r) => r.machine.resetPlane(r.vps[1]!.plane(1), 'powerOn'));
      leave(rig);
      rig.arch.apicOf(rig.vps[1]!.plane(1)).reset = () => {};
      if (i === 2) rig.machine.timersChanged(rig.vps[1]!.plane(1));
      expect(verdict(rig)).toBe('I-RESET');
    }
  });

  it('a guest index used unchecked, an unknown code that aborts: I-SAFE (OpenVMM #3686; cloud-hypervisor #7934)', () => {
    expect(verdict(once(() => { throw new RangeError('index 2048 of 2048'); }))).toBe('I-SAFE');
    expect(verdict(once((rig) => void rig.vps[0]!.plane(9)))).toBe('I-SAFE');
    const rig = rigOf({ guests: [{ 0: [{ op: 'rdmsr', index: 0xdead }] }] });
    rig.arch.registers.msr = () => { throw new TypeError('no such row'); };
    expect(verdict(rig)).toBe('I-SAFE');
  });

  it('errors of the VMM pass as they are', () => {
    const rig = rigOf({ guests: [{ 0: [{ op: 'in', port: 1 }] }] });
    rig.run();
    expect(() => rig.run()).toThrow(expect.objectContaining({ code: 'BadState' }));
    expect(rig.arch).toBeInstanceOf(X86Arch);
  });
});
