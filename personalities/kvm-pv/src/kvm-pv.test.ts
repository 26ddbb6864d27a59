import { createScope } from '@vmplanes/di';
import { Activity, installEngine, type Machine, type MachineOptions, PlaneId, subject, SubjectKind } from '@vmplanes/engine';
import { type GeneratorScript, readRegister, type Script, type ScriptBinding, ScriptCpu, type Step, type StepResult, writeRegister, X86Arch } from '@vmplanes/x86';
import { describe, expect, it } from 'vitest';
import { Call, calls, ClockPairing, featureMask, features, Msr, msrs, Status, StealTime, VcpuTimeInfo, WallClock } from './abi/index.ts';
import { callHandlers } from './calls.ts';
import type { KvmPv } from './kvm-pv.ts';
import { personality } from './plugin.ts';
import { support } from './support.ts';
import { scaleCycles, timeScale } from './time-scale.ts';

const BOOT = 1_000_000;
const defaults = { leafBase: 0x4000_0000, bootSeconds: BOOT };

interface Rig {
  readonly machine: Machine;
  readonly arch: X86Arch;
  readonly pv: KvmPv;
}

/** A machine with this interface; VPs after the first run at once. */
const rig = (vps: number, planes: number, options: Partial<MachineOptions> = {}, plugin = defaults): Rig => {
  const scope = createScope();
  const arch = new X86Arch();
  const machine = installEngine(scope, { arch, policy: 'userspace', rule: 'deliverable', options: { maxVps: 4, maxPlanes: 4, memoryBytes: 0x10_0000, quantum: 1000, ...options } });
  const pv = personality.install(scope, plugin) as KvmPv;
  machine.addPersonality(pv);
  machine.memory.addSlot({ id: 0, gpa: 0, size: 0x8_0000 });
  for (let v = 0; v < vps; v++) {
    const vp = machine.createVp();
    for (let p = 1; p < planes; p++) machine.createPlane(vp, PlaneId(p));
    for (const c of vp.planes) if (c) c.activity = Activity.Running;
  }
  return { machine, arch, pv };
};

/** Runs scripts by plane on each VP, all of plane 0 first, then plane 1 and so on, until nothing moves. */
const runAll = ({ machine, arch }: Rig, scripts: readonly (Readonly<Partial<Record<number, ScriptBinding>>> | undefined)[], planes = [0]): void => {
  machine.vps.forEach((vp, i) => machine.setCpu(vp, new ScriptCpu(machine, arch, scripts[i] ?? {})));
  for (const plane of planes) {
    for (const vp of machine.vps) vp.named = plane;
    expect(machine.run(10_000).kind).toBe('idle');
  }
};

/** A script that runs steps and keeps their results. */
const steps = (...list: readonly Step[]): { readonly script: GeneratorScript; readonly results: StepResult[] } => {
  const results: StepResult[] = [];
  const script: GeneratorScript = {
    id: 'steps',
    *main() {
      for (const step of list) results.push(yield step);
    },
  };
  return { script, results };
};
const run = (r: Rig, ...list: readonly Step[]): readonly StepResult[] => {
  const { script, results } = steps(...list);
  runAll(r, [{ 0: { script } }]);
  return results;
};

const read = (r: Rig, plane: number, gpa: number, size: number): DataView => {
  const bytes = new Uint8Array(size);
  expect(r.machine.memory.access.read(subject(SubjectKind.Host, plane), gpa, bytes, 0, size)).toBe(0);
  return new DataView(bytes.buffer);
};
const call = (nr: number, a0 = 0, a1 = 0, a2 = 0, a3 = 0, via: 'vmcall' | 'vmmcall' = 'vmcall'): Step => ({ op: 'call', via, regs: { rax: nr, rbx: a0, rcx: a1, rdx: a2, rsi: a3 } });
const low32 = (status: number): bigint => BigInt(status >>> 0);

describe('leaves', () => {
  it('show the signature, the features and the frequencies', () => {
    const r = rig(1, 1);
    const [sig, feat, none, timing] = run(r, ...[0x4000_0000, 0x4000_0001, 0x4000_0007, 0x4000_0010].map((leaf): Step => ({ op: 'cpuid', leaf })));
    expect([sig!.rax, sig!.rbx, sig!.rcx, sig!.rdx]).toEqual([0x4000_0010n, 0x4b4d564bn, 0x564b4d56n, 0x4dn]);
    const name = [sig!.rbx, sig!.rcx, sig!.rdx].map((word) => [0n, 8n, 16n, 24n].map((s) => String.fromCharCode(Number((word >> s) & 0xffn))).join('')).join('');
    expect(name).toBe('KVMKVMKVM\0\0\0');
    expect(feat!.rax).toBe(BigInt(featureMask));
    expect([none!.rax, none!.rbx, none!.rcx, none!.rdx]).toEqual([0n, 0n, 0n, 0n]);
    expect([timing!.rax, timing!.rbx]).toEqual([1_000_000n, BigInt(Math.floor(1_000_000 / r.arch.config.apic.busTicks))]);
  });

  it('move with their base', () => {
    const [sig, own] = run(rig(1, 1, {}, { ...defaults, leafBase: 0x4000_0100 }), { op: 'cpuid', leaf: 0x4000_0100 }, { op: 'cpuid', leaf: 0x4000_0000 });
    expect(sig!.rbx).toBe(0x4b4d564bn);
    expect(own!.rbx).not.toBe(0x4b4d564bn);
  });

  it('announce exactly what is served', () => {
    expect(featureMask).toBe(0x0100_18eb);
    expect(features.filter((f) => !f.served).every((f) => f.why.length > 0)).toBe(true);
  });
});

describe('MSRs', () => {
  const gp: Partial<StepResult> = { fault: { vector: 13, errorCode: 0, address: 0n } };

  it.each([
    ['an MSR that is not announced', Msr.AsyncPfEnable, 1],
    ['the vector of one that is not announced', Msr.AsyncPfInt, 0x20],
    ['reserved bits of steal time', Msr.StealTime, 0x1002],
    ['the reserved bit of PV EOI', Msr.PvEoi, 0x1003],
    ['more than the poll bit', Msr.PollControl, 2],
    ['the poll bit with high bits', Msr.PollControl, 0x1_0000_0001],
  ])('refuse %s with #GP', (_what, index, value) => {
    const r = rig(1, 1);
    const [written, after] = run(r, { op: 'wrmsr', index, value }, { op: 'rdmsr', index });
    expect(written!.fault).toMatchObject(gp.fault!);
    if (index === Msr.PollControl) expect(after!.edxEax).toBe(1n);
  });

  it('keep what was written, under both numbers of the clock', () => {
    const results = run(rig(1, 1), { op: 'rdmsr', index: Msr.PollControl }, { op: 'wrmsr', index: Msr.SystemTime, value: 0x3001 }, { op: 'rdmsr', index: Msr.SystemTimeOld }, { op: 'wrmsr', index: Msr.WallClockOld, value: 0x4000 }, { op: 'rdmsr', index: Msr.WallClock });
    expect(results.map((x) => x.fault)).toEqual([null, null, null, null, null]);
    expect([results[0]!.edxEax, results[2]!.edxEax, results[4]!.edxEax]).toEqual([1n, 0x3001n, 0x4000n]);
  });

  it('have one row each in the support matrix', () => {
    for (const m of msrs) expect(support.filter((s) => s.kind === 'msr' && s.name === m.name)).toHaveLength(1);
    expect(support.find((s) => s.name === 'MSR_KVM_ASYNC_PF_EN')).toMatchObject({ support: 'no', note: 'guest memory is never paged out' });
  });
});

/** The time of a clock page, computed as a guest does. @spec Linux Documentation/virt/kvm/x86/msr.rst */
const guestTime = (page: DataView, tsc: bigint): bigint => {
  const p = VcpuTimeInfo.read(page, 0);
  expect(p.version % 2).toBe(0);
  const delta = BigInt.asUintN(64, tsc - p.tscTimestamp);
  const shifted = p.tscShift >= 0 ? delta << BigInt(p.tscShift) : delta >> BigInt(-p.tscShift);
  return ((shifted * BigInt(p.tscToSystemMul)) >> 32n) + p.systemTime;
};
const tscOf = (r: Rig, vp: number, plane: number): bigint => r.arch.registers.readMsr(r.machine.vp(vp).plane(plane), 0x10, true) as bigint;

describe('kvmclock', () => {
  it('gives equal nanoseconds in every plane of every VP at one instant', () => {
    const r = rig(2, 2);
    const clock = (vp: number, plane: number): ScriptBinding => {
      const page = 0x1000 * (1 + vp * 2 + plane);
      // Each plane sets its own counter to something else before or after it names its page.
      const tsc: Step = { op: 'wrmsr', index: 0x10, value: 1_000_000 * (vp + 1) + 77 * plane };
      const name: Step = { op: 'wrmsr', index: Msr.SystemTime, value: page | 1 };
      return { script: steps(...(plane === 0 ? [tsc, name] : [name, tsc]), { op: 'work', cost: 500 }).script };
    };
    runAll(r, [{ 0: clock(0, 0), 1: clock(0, 1) }, { 0: clock(1, 0), 1: clock(1, 1) }], [0, 1]);
    const counters = new Set<bigint>();
    for (const vp of r.machine.vps) {
      for (const plane of [0, 1]) {
        const tsc = tscOf(r, vp.index, plane);
        counters.add(tsc);
        expect(guestTime(read(r, plane, 0x1000 * (1 + vp.index * 2 + plane), 32), tsc)).toBe(BigInt(r.machine.nanoseconds(r.machine.timeOf(vp))));
        expect(r.pv.nanoseconds(vp.plane(plane))).toBe(BigInt(r.machine.nanoseconds(r.machine.timeOf(vp))));
      }
    }
    expect(counters.size).toBe(4);
  });

  it.each([1_000_000, 33_333_333, 999_999_999, 1_000_000_000, 2_400_000_000, 4_294_967_297])('scales %d Hz to within 2^-31', (hz) => {
    const scale = timeScale(hz);
    expect(scale.mul).toBeGreaterThanOrEqual(2 ** 31);
    expect(scale.mul).toBeLessThan(2 ** 32);
    const seconds = 1000n;
    const error = seconds * 1_000_000_000n - scaleCycles(BigInt(hz) * seconds, scale);
    expect(error >= 0n && error <= (seconds * 1_000_000_000n) >> 31n).toBe(true);
  });

  it('makes a left-over odd version even and keeps counting', () => {
    const r = rig(1, 1);
    run(r, { op: 'write', gpa: 0x1000, size: 4, value: 7 }, { op: 'wrmsr', index: Msr.SystemTime, value: 0x1001 }, { op: 'work' });
    expect(VcpuTimeInfo.read(read(r, 0, 0x1000, 32), 0).version).toBe(10);
  });

  it('lets a reader in the middle of an update see an odd version', () => {
    const r = rig(1, 1);
    const seen: number[] = [];
    r.machine.hooks.preemption = { at: (point) => point === 'kvmclock:odd' && seen.push(read(r, 0, 0x1000, 4).getUint32(0, true)) };
    run(r, { op: 'wrmsr', index: Msr.SystemTime, value: 0x1001 }, { op: 'work' });
    expect(seen).toEqual([1]);
  });

  it('writes nothing that the plane may not write itself', () => {
    const r = rig(1, 2);
    r.machine.memory.permissions[1]!.set(1, 1, 1);
    const { script } = steps({ op: 'wrmsr', index: Msr.SystemTime, value: 0x1001 }, { op: 'work' });
    runAll(r, [{ 1: { script } }], [1]);
    expect(new Uint8Array(read(r, 0, 0x1000, 32).buffer).every((b) => b === 0)).toBe(true);
  });

  it('tells the wall clock of boot', () => {
    const r = rig(1, 1);
    run(r, { op: 'wrmsr', index: Msr.WallClock, value: 0x2000 });
    expect(WallClock.read(read(r, 0, 0x2000, 12), 0)).toEqual({ version: 2, sec: BOOT, nsec: 0 });
  });

  it('pairs wall clock and counter', () => {
    const r = rig(1, 1);
    const [a, b, c] = run(r, call(Call.ClockPairing, 0x2000, 0), call(Call.ClockPairing, 0x2000, 1), call(Call.ClockPairing, 0x90_0000, 0));
    expect([a!.rax, b!.rax, c!.rax]).toEqual([0n, low32(Status.Eopnotsupp), low32(Status.Efault)]);
    const pair = ClockPairing.read(read(r, 0, 0x2000, 64), 0);
    expect(pair.sec).toBe(BigInt(BOOT));
    expect(pair.nsec).toBe(pair.tsc);
  });
});

describe('calls', () => {
  it('are all served or unsupported by name', () => {
    for (const c of calls) expect(callHandlers.has(c.nr)).toBe(!('why' in c));
    expect([...callHandlers.keys()].every((nr) => calls.some((c) => c.nr === nr))).toBe(true);
  });

  it.each([
    ['a call of another architecture', call(Call.Features), Status.Enosys],
    ['a number that is none', call(4711), Status.Enosys],
    ['a call that does nothing', call(Call.VapicPollIrq), Status.Ok],
    ['VMMCALL', call(Call.VapicPollIrq, 0, 0, 0, 0, 'vmmcall'), Status.Ok],
    ['a logical destination', call(Call.SendIpi, 1, 0, 0, 0x0840), Status.Einval],
    ['a shorthand', call(Call.SendIpi, 1, 0, 0, 0x4_0040), Status.Einval],
    ['an IPI to nobody', call(Call.SendIpi, 0, 0, 0, 0x40), 0],
    ['an IPI to an id that is not there', call(Call.SendIpi, 1, 0, 60, 0x40), 0],
  ])('answer %s', (_what, step, status) => expect(run(rig(1, 1), step)[0]!.rax).toBe(low32(status)));

  it('refuse every caller outside of ring 0, before they look at the number', () => {
    const r = rig(1, 1);
    writeRegister(r.machine.arena, r.machine.vp(0).plane(0).base, 'ss.attributes', 0xf3n);
    expect(run(r, call(Call.SendIpi), call(4711)).map((x) => x.rax)).toEqual([low32(Status.Eperm), low32(Status.Eperm)]);
  });

  it('extend their status in 64-bit mode and look at the whole number', () => {
    const r = rig(1, 1);
    const { base } = r.machine.vp(0).plane(0);
    writeRegister(r.machine.arena, base, 'efer', 0x500n);
    writeRegister(r.machine.arena, base, 'cs.attributes', 0x29bn);
    const wide: Step = { op: 'call', regs: { rax: 0x1_0000_0001n } };
    expect(run(r, call(4711), wide).map((x) => BigInt.asIntN(64, x.rax))).toEqual([-1000n, -1000n]);
  });
});

describe('interprocessor interrupts', () => {
  const enable: readonly Step[] = [{ op: 'apicWrite', register: 0x0f, value: 0x1ff }];
  const sleeper = (vectors: number[]): Script => ({
    id: 'sleeper',
    *main() {
      yield* enable;
      yield { op: 'sti' };
      for (;;) yield { op: 'hlt' };
    },
    *handler(vector) {
      vectors.push(vector);
      yield { op: 'eoi' };
    },
  });

  it('reach the processors of the bitmap, in the plane of the sender alone', () => {
    const r = rig(3, 2);
    const got: number[][] = [[], [], []];
    const other: number[] = [];
    const { script, results } = steps({ op: 'work', cost: 3000 }, call(Call.SendIpi, 0b110, 0, 0, 0x51));
    const idle = { script: sleeper(other) };
    runAll(r, [{ 1: { script }, 0: idle }, { 1: { script: sleeper(got[1]!) }, 0: idle }, { 1: { script: sleeper(got[2]!) }, 0: idle }], [0, 1]);
    expect(results[1]!.rax).toBe(2n);
    expect(got).toEqual([[], [0x51], [0x51]]);
    expect(other).toEqual([]);
  });

  it('count only local APICs that are enabled', () => {
    const r = rig(2, 1);
    const [sent] = run(r, call(Call.SendIpi, 0b11, 0, 0, 0x51));
    expect(sent!.rax).toBe(0n);
  });

  it('reach ids behind the first word of a 32-bit caller through the second one', () => {
    const r = rig(1, 1);
    const { script, results } = steps(...enable, call(Call.SendIpi, 0, 1, 0, 0x51), call(Call.SendIpi, 1, 0, 0, 0x51));
    runAll(r, [{ 0: { script } }]);
    // Id 32 is nobody, id 0 is the sender itself.
    expect(results.slice(1).map((x) => x.rax)).toEqual([0n, 1n]);
  });

  it('kick a halted processor, and end the next halt of one that runs', () => {
    const r = rig(2, 1);
    const woken = steps({ op: 'hlt' }, { op: 'work' });
    const kicker = steps({ op: 'work', cost: 3000 }, call(Call.KickCpu, 0, 1), call(Call.KickCpu, 0, 0), { op: 'hlt' }, { op: 'work' });
    runAll(r, [{ 0: { script: kicker.script } }, { 0: { script: woken.script } }]);
    expect(woken.results).toHaveLength(2);
    expect(kicker.results).toHaveLength(5);
  });
});

describe('steal time', () => {
  it('counts what another plane took from a plane that was ready', () => {
    const r = rig(1, 2);
    const { machine } = r;
    const vp = machine.vp(0);
    const { script } = steps({ op: 'wrmsr', index: Msr.StealTime, value: 0x1001 }, { op: 'work', cost: 2500 }, { op: 'work', cost: 2000 }, { op: 'work' });
    const thief = steps({ op: 'work', cost: 700 });
    machine.setCpu(vp, new ScriptCpu(machine, r.arch, { 0: { script }, 1: { script: thief.script } }));
    machine.run(2);
    expect(StealTime.read(read(r, 0, 0x1000, 64), 0)).toMatchObject({ steal: 0n, preempted: 0 });
    // Plane 0 is in the middle of its work: the VMM runs plane 1 instead.
    vp.named = 1;
    machine.run(3);
    expect(StealTime.read(read(r, 0, 0x1000, 64), 0).preempted).toBe(1);
    vp.named = 0;
    expect(machine.run().kind).toBe('idle');
    const after = StealTime.read(read(r, 0, 0x1000, 64), 0);
    expect(after.preempted).toBe(0);
    expect(after.version % 2).toBe(0);
    expect(Number(after.steal)).toBeGreaterThanOrEqual(700);
  });
});

describe('end of interrupt through memory', () => {
  it('ends the interrupt in service when the guest clears the bit', () => {
    const r = rig(1, 1);
    const seen: bigint[] = [];
    const script: Script = {
      id: 'eoi',
      *main() {
        yield { op: 'apicWrite', register: 0x0f, value: 0x1ff };
        yield { op: 'wrmsr', index: Msr.PvEoi, value: 0x1001 };
        yield { op: 'sti' };
        yield call(Call.SendIpi, 1, 0, 0, 0x51);
        yield { op: 'work' };
        yield { op: 'work' };
      },
      *handler() {
        // Any exit: the bit is set on the way back in.
        yield { op: 'cpuid', leaf: 0 };
        seen.push((yield { op: 'read', gpa: 0x1000, size: 4 }).rax);
        yield { op: 'write', gpa: 0x1000, size: 4, value: 0 };
        yield { op: 'cpuid', leaf: 0 };
      },
    };
    runAll(r, [{ 0: { script } }]);
    const apic = r.arch.apicOf(r.machine.vp(0).plane(0));
    expect(seen).toEqual([1n]);
    expect(apic.highestIsr()).toBe(-1);
    expect(read(r, 0, 0x1000, 4).getUint32(0, true)).toBe(0);
  });

  it('takes the offer back at the next exit when the guest did not use it', () => {
    const r = rig(1, 1);
    const script: Script = {
      id: 'eoi',
      *main() {
        yield { op: 'apicWrite', register: 0x0f, value: 0x1ff };
        yield { op: 'wrmsr', index: Msr.PvEoi, value: 0x1001 };
        yield { op: 'sti' };
        yield call(Call.SendIpi, 1, 0, 0, 0x51);
        yield { op: 'work' };
      },
      *handler() {
        yield { op: 'cpuid', leaf: 0 };
        yield { op: 'eoi' };
        yield { op: 'cpuid', leaf: 0 };
      },
    };
    runAll(r, [{ 0: { script } }]);
    expect(r.arch.apicOf(r.machine.vp(0).plane(0)).highestIsr()).toBe(-1);
    expect(read(r, 0, 0x1000, 4).getUint32(0, true)).toBe(0);
  });
});

describe('state', () => {
  it('is the same after save and restore, and the rest of the run too', () => {
    const script: GeneratorScript = {
      id: 'long',
      *main() {
        yield { op: 'wrmsr', index: Msr.SystemTime, value: 0x1001 };
        yield { op: 'wrmsr', index: Msr.StealTime, value: 0x2001 };
        yield call(Call.KickCpu, 0, 0);
        for (let i = 0; i < 50; i++) yield { op: 'work', cost: 97 };
        yield { op: 'hlt' };
        yield { op: 'wrmsr', index: 0x10, value: 5 };
        yield call(Call.ClockPairing, 0x3000, 0);
      },
    };
    const start = (): Rig => {
      const r = rig(1, 1);
      r.machine.setCpu(r.machine.vp(0), new ScriptCpu(r.machine, r.arch, { 0: { script } }));
      return r;
    };
    const whole = start();
    expect(whole.machine.run().kind).toBe('idle');
    const cut = start();
    cut.machine.run(2);
    const snapshot = structuredClone(cut.machine.snapshot());
    const rest = start();
    rest.machine.restore(snapshot);
    expect(rest.machine.run().kind).toBe('idle');
    expect(rest.machine.snapshot()).toEqual(whole.machine.snapshot());
    expect(VcpuTimeInfo.read(read(rest, 0, 0x1000, 32), 0).version).toBe(4);
    expect(readRegister(rest.machine.arena, rest.machine.vp(0).plane(0).base, 'rax')).toBe(0n);
  });

  it('refuses a record of another shape', () => {
    const { pv } = rig(1, 1);
    expect(() => pv.restore([{ vp: 0, plane: 0, cells: 3 }])).toThrow(expect.objectContaining({ code: 'BadSnapshot' }));
  });
});
