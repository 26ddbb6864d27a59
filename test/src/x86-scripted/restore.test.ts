import { PlaneId, type Snapshot } from '@vmplanes/engine';
import { ScriptCpu, type Script, type ScriptArgs, type Step, type TableScript } from '@vmplanes/x86';
import { describe, expect, it } from 'vitest';
import { calls, generator, type Rig, rigOf } from '../engine/rig.ts';

const work = { op: 'work' } as const;
const handler = function* (vector: number) {
  yield { op: 'write', gpa: 0x200 + vector, size: 1, value: vector } as Step;
  yield { op: 'eoi' } as Step;
};
const asTable: TableScript = {
  id: 'counts',
  steps: [{ op: 'sti' }, { op: 'work', regs: { rcx: 40 } }, { op: 'call' }, { op: 'rdmsr', index: 0x999 }, { op: 'ipi', icr: 0x40040 }, { op: 'write', gpa: 0x10, size: 2, value: 0xabcd }, { op: 'loop', register: 'rcx', to: 2 }],
  handlers: { default: [{ op: 'write', gpa: 0x200, size: 1, value: 1 }, { op: 'eoi' }], 2: [work] },
};
const asGenerator = generator('counts', function* () {
  yield { op: 'sti' };
  for (let i = 0; i < 40; i++) {
    const { rax } = yield { op: 'call', regs: { rax: i } };
    const { fault } = yield { op: 'rdmsr', index: 0x999 };
    yield { op: 'ipi', icr: 0x40040 + (fault ? 1 : 0) };
    yield { op: 'write', gpa: 0x10, size: 2, value: rax & 0xffffn };
  }
}, handler);

const make = (script: Script, prepare = true): Rig => {
  const rig = rigOf({ options: { quantum: 3 }, claims: calls, guests: [{ 0: script }] });
  if (prepare) rig.machine.memory.addSlot({ id: 0, gpa: 0, size: 4096 });
  return rig;
};

describe('restore of scripts', () => {
  it.each([['table', asTable], ['generator', asGenerator]] as const)('a %s goes on from any slice as if nothing had happened', (_kind, script) => {
    const whole = make(script);
    const cuts: unknown[] = [];
    for (let i = 0; i < 60; i++) {
      cuts.push(structuredClone(whole.machine.snapshot()));
      if (i % 9 === 4) whole.nmi(0, 0);
      whole.run(1);
    }
    const end = whole.machine.snapshot();
    for (let i = 0; i < cuts.length; i += 7) {
      const other = make(script, false);
      other.machine.restore(cuts[i] as never);
      for (let j = i; j < 60; j++) {
        if (j % 9 === 4) other.nmi(0, 0);
        other.run(1);
      }
      expect(other.machine.snapshot()).toEqual(end);
    }
  });

  it('a snapshot taken inside a handler restores the handler and the flag it gives back', () => {
    const script: Script = { id: 'in handler', steps: [{ op: 'sti' }, work, work, work], handlers: { default: [work, work, work, work, work, { op: 'eoi' }] } };
    const rig = make(script);
    rig.msi(0, 0, 0x40);
    rig.run(2);
    const saved = rig.machine.snapshot();
    expect((saved.vps[0]!.cpu as { frames: unknown[] }[])[0]!.frames).toHaveLength(2);
    const other = make(script, false);
    other.machine.restore(structuredClone(saved));
    for (const r of [rig, other]) r.run();
    expect(other.machine.snapshot()).toEqual(rig.machine.snapshot());
    expect(other.get(0, 0, 'rflags') & 0x200n).toBe(0x200n);
  });

  it('a generator that yields other steps than the saved run is refused, with the step (BadSnapshot)', () => {
    const rig = make(asGenerator);
    rig.run(5);
    const saved = rig.machine.snapshot();
    const changed = make(generator('counts', function* () { yield { op: 'sti' }; yield { op: 'call', regs: { rax: 1 } }; }, handler), false);
    expect(() => changed.machine.restore(structuredClone(saved))).toThrow(expect.objectContaining({ code: 'BadSnapshot', message: expect.stringContaining('counts: step 1') }));
    const shorter = make(generator('counts', function* () { yield { op: 'sti' }; }, handler), false);
    expect(() => shorter.machine.restore(structuredClone(saved))).toThrow(/step 1 is the end/);
  });

  it('another script, a missing handler and a place outside of the table are refused', () => {
    const rig = make(asTable);
    rig.run(1);
    const saved = rig.machine.snapshot();
    expect(() => make({ ...asTable, id: 'other' }, false).machine.restore(saved)).toThrow(/runs script counts, this processor other/);
    const outside = structuredClone(saved);
    (outside.vps[0]!.cpu as { frames: { pc: number }[] }[])[0]!.frames[0]!.pc = 99;
    expect(() => make(asTable, false).machine.restore(outside)).toThrow(expect.objectContaining({ code: 'BadSnapshot' }));
    const inHandler = structuredClone(saved);
    (inHandler.vps[0]!.cpu as { frames: object[] }[])[0]!.frames.push({ vector: 7, pc: 0, interruptFlag: 0 });
    expect(() => make({ id: 'counts', steps: asTable.steps }, false).machine.restore(inHandler)).toThrow(/no handler for vector 7/);
  });

  it('arguments of a script are part of its state', () => {
    const script = generator('args', function* (args: ScriptArgs) { for (let i = 0; i < 9; i++) yield { op: 'write', gpa: 8, size: 1, value: args['value'] as number }; });
    const build = (value: number) => {
      const rig = make({ id: 'none', steps: [] }, false);
      rig.machine.setCpu(rig.vps[0]!, new ScriptCpu(rig.machine, rig.arch, { 0: { script, args: { value } } }));
      return rig;
    };
    const rig = build(5);
    rig.machine.memory.addSlot({ id: 0, gpa: 0, size: 4096 });
    rig.run(1);
    const other = build(6);
    other.machine.restore(structuredClone(rig.machine.snapshot()));
    for (const r of [rig, other]) r.run();
    expect(other.machine.snapshot()).toEqual(rig.machine.snapshot());
  });
});

describe('restore of machines', () => {
  it('into a machine without VPs: they are made, their processors take their state over when they are set', () => {
    const rig = rigOf({ options: { quantum: 3, maxVps: 2 }, claims: calls, guests: [{ 0: asTable, 2: [work] }, { 0: asTable }] });
    rig.machine.memory.addSlot({ id: 0, gpa: 0, size: 4096 });
    rig.run(9);
    const saved = structuredClone(rig.machine.snapshot());
    const empty = rigOf({ options: { quantum: 3, maxVps: 2 }, claims: calls, guests: [] });
    empty.machine.restore(saved);
    expect(empty.vps.map((vp) => vp.existing)).toEqual([0b101, 0b1]);
    // A snapshot before the processors are set loses nothing.
    expect((empty.machine.snapshot()).vps.map((v) => v.cpu)).toEqual(saved.vps.map((v) => v.cpu));
    for (const [i, bindings] of [{ 0: { script: asTable }, 2: { script: { id: (saved.vps[0]!.cpu as { script: string }[])[2]!.script, steps: [work] } } }, { 0: { script: asTable } }].entries()) {
      empty.machine.setCpu(empty.vps[i]!, new ScriptCpu(empty.machine, empty.arch, bindings));
    }
    rig.run(200);
    empty.run(200);
    expect(empty.machine.snapshot()).toEqual(rig.machine.snapshot());
  });

  it.each([
    ['format', (s: Record<string, unknown>): void => void (s['format'] = 'x'), 'not a vmplanes snapshot'],
    ['version', (s: Record<string, unknown>): void => void (s['version'] = 99), 'version 99'],
    ['architecture', (s: Record<string, unknown>): void => void (s['arch'] = 'arm'), 'architecture arm'],
    ['options', (s: Record<string, unknown>): void => void (s['options'] = { ...(s['options'] as object), quantum: 77 }), 'quantum 77'],
    ['fewer VPs', (s: Record<string, unknown>): void => void (s['vps'] = []), 'this machine 1'],
    ['a component it has not', (s: Record<string, unknown>): void => void (s['components'] = {}), 'no state of'],
    ['a component too many', (s: Record<string, unknown>): void => void (s['components'] = { ...(s['components'] as object), ghost: { version: 1, state: null } }), 'ghost'],
  ] as const)('a snapshot with another %s is refused and nothing changes', (_what, change, message) => {
    const rig = make(asTable);
    rig.run(4);
    const before = structuredClone(rig.machine.snapshot());
    const other: Snapshot = structuredClone(before);
    change(other as never);
    expect(() => rig.machine.restore(other)).toThrow(expect.objectContaining({ code: 'BadSnapshot', message: expect.stringContaining(message) }));
    expect(rig.machine.snapshot()).toEqual(before);
  });

  it('a plane that the snapshot has not is refused; a running machine gives no snapshot', () => {
    const rig = make(asTable);
    const saved = rig.machine.snapshot();
    rig.machine.createPlane(rig.vps[0]!, PlaneId(1));
    expect(() => rig.machine.restore(saved)).toThrow(/has plane 1 on VP 0/);
    rig.vps[0]!.running = 0;
    expect(() => rig.machine.snapshot()).toThrow(expect.objectContaining({ code: 'BadState' }));
  });

  it('settings of the VMM that change what exits are state: MSR exits, bus lock exits, filter', () => {
    const rig = make(asTable);
    rig.arch.registers.msrExits = { unknown: true, invalid: true, filter: false };
    rig.arch.registers.busLockExits = true;
    const other = make(asTable, false);
    other.machine.restore(structuredClone(rig.machine.snapshot()));
    expect([other.arch.registers.msrExits, other.arch.registers.busLockExits]).toEqual([{ unknown: true, invalid: true, filter: false }, true]);
  });
});
