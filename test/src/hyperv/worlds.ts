import { HvCall, HvMsr, HvRegister, type ParameterCall } from '@vmplanes/abi-hyperv';
import { PlaneId } from '@vmplanes/engine';
import { ScriptCpu, type Step, type TableScript } from '@vmplanes/x86';
import type { Party, Scenario, World } from '../explore/explorer.ts';
import { interrupt } from '../explore/scenarios.ts';
import type { Policy } from './bench.ts';
import { booted, type CallInput, contextOf, DATA, type Guest, hypercallPage, OS_ID, ready, SELF, simPage, target, VP_SELF } from './guest.ts';

const VPS = 2;
const FLAGS = 0x14_0000;
const BLOCKS = 0x15_0000;
const BLOCK_SIZE = 0x200;
const ONE_DONE = 0x1_0000_0000n;
const SINT0 = 0x30;

/** Where the handler of a vector, or a program, says that it came so far. */
const flagOf = (vp: number, vtl: number, what: number): number => FLAGS + vp * 0x400 + vtl * 0x200 + what;
const isSet = (guest: Guest, vp: number, vtl: number, what: number): boolean => guest.peek(0, flagOf(vp, vtl, what), 1).getUint8(0) === 1;
const say = (vp: number, vtl: number, what: number): Step => ({ op: 'write', gpa: flagOf(vp, vtl, what), size: 1, value: 1 });
/** Flags of programs; below are vectors. */
const Said = { Finished: 0x100, First: 0x101, Second: 0x102 } as const;

const vtlCall: Step = { op: 'call', regs: { rcx: 0x11, rax: 0 } };
const vtlReturn: Step = { op: 'call', regs: { rcx: 0x12, rax: 0 } };
/** Goes back to the lower VTL whenever it is entered. */
const backFrom = (at: number): readonly Step[] => [vtlReturn, { op: 'jump', to: at }];
const isZero: Step = { op: 'expect', register: 'rax', equals: 0 };
const isOneDone: Step = { op: 'expect', register: 'rax', equals: ONE_DONE };

/** Parameter blocks in guest memory, and the steps that make the calls. */
export class Calls {
  #next = BLOCKS;
  readonly #guest: Guest;
  constructor(guest: Guest) {
    this.#guest = guest;
  }
  make<C extends ParameterCall>(call: C, input: CallInput<C>): Step {
    const at = this.#next;
    this.#next += BLOCK_SIZE;
    this.#guest.poke(0, at, this.#guest.encode(call, input));
    const count = BigInt(input.elements?.length ?? 0);
    return { op: 'call', regs: { rcx: BigInt(call.code) | (count << 32n), rdx: at, r8: at + BLOCK_SIZE / 2 } };
  }
  put(register: number, value: bigint): Step {
    return this.make(HvCall.SetVpRegisters, { header: { partitionId: SELF, vpIndex: VP_SELF, inputVtl: 0 }, elements: [{ name: register, value: { low: value, high: 0n } }] });
  }
  ipi(vector: number, targetVtl: number, processorMask: bigint): Step {
    return this.make(HvCall.SendSyntheticClusterIpi, { header: { vector, targetVtl, flags: 0, processorMask } });
  }
  protect(mapFlags: number): Step {
    return this.make(HvCall.ModifyVtlProtectionMask, { header: { targetPartitionId: SELF, mapFlags, targetVtl: 0 }, elements: [BigInt(DATA >>> 12)] });
  }
  enableVp(vpIndex: number): Step {
    return this.make(HvCall.EnableVpVtl, { header: { targetPartitionId: SELF, vpIndex, targetVtl: 1, vpContext: contextOf(vpIndex, 1) } });
  }
}

/** What a scenario adds to two VPs with two VTLs. */
interface Plot {
  /** Programs by VP and VTL. */
  readonly programs: readonly (readonly (readonly Step[])[])[];
  /** Vectors whose handlers say that they ran, of any VTL. */
  readonly vectors: readonly number[];
  readonly handlers?: readonly (readonly Readonly<Record<string, readonly Step[]>>[])[];
  /** Interrupts from outside: VP, VTL, vector. */
  readonly sent?: readonly (readonly [vp: number, vtl: number, vector: number])[];
  /** Interrupts that the programs themselves send. */
  readonly own?: readonly (readonly [vp: number, vtl: number, vector: number])[];
  settled?(): readonly string[];
}

const scripted = (guest: Guest, plot: Plot): readonly ScriptCpu[] =>
  guest.machine.vps.map((vp) => {
    const bindings = Object.fromEntries(
      [0, 1].map((vtl): [number, { readonly script: TableScript }] => {
        const common = Object.fromEntries(plot.vectors.map((v) => [String(v), [say(vp.index, vtl, v), { op: 'eoi' }] satisfies Step[]]));
        return [vtl, { script: { id: `VP ${vp.index} VTL ${vtl}`, steps: plot.programs[vp.index]![vtl]!, handlers: { ...common, ...plot.handlers?.[vp.index]?.[vtl] } } }];
      }),
    );
    const cpu = new ScriptCpu(guest.machine, guest.arch, bindings);
    guest.machine.setCpu(vp, cpu);
    return cpu;
  });

/** Everybody is back in VTL0, done with its program; nothing that was sent is lost. */
const endsWell = (guest: Guest, cpus: readonly ScriptCpu[], plot: Plot, notes: Int32Array): readonly string[] => {
  const why: string[] = [];
  cpus.forEach((cpu, vp) => {
    for (const vtl of [0, 1]) {
      const failure = cpu.failure(vtl);
      if (failure !== null) why.push(failure);
    }
    if (guest.active(vp) !== 0) why.push(`VP ${vp} rests in VTL${guest.active(vp)}`);
    if (!cpu.finished(0)) why.push(`VP ${vp} VTL0 is not done`);
  });
  const expected = [...(plot.sent ?? []).filter((_, i) => notes[i] === 1), ...(plot.own ?? [])];
  for (const [vp, vtl, vector] of expected) if (!isSet(guest, vp, vtl, vector)) why.push(`I-IRQ: VP ${vp} VTL${vtl} never served ${vector}`);
  return [...why, ...(plot.settled?.() ?? [])];
};

const world = (guest: Guest, plot: Plot, notes: Int32Array): World => {
  const { machine, arch } = guest;
  const cpus = scripted(guest, plot);
  const parties = (plot.sent ?? []).map(([vp, vtl, vector], i): Party => {
    const party = interrupt(machine, vp, vtl, vector);
    return { ...party, act: () => ((notes[i] = 1), party.act()) };
  });
  return { machine, arch, parties, notes, onExit: () => {}, settled: () => endsWell(guest, cpus, plot, notes) };
};

/** Interrupts on in every VTL that there is. */
const listening = (guest: Guest): Guest => {
  for (const vp of guest.machine.vps) for (const c of vp.planes) if (c) guest.interruptFlag(true, vp.index, c.plane);
  return guest;
};
const secured = (policy: Policy, options: object = {}): Guest => listening(ready({ vps: VPS, policy, options }));

// -- scenarios -----------------------------------------------------------------------------------------------------------------------

/** Two kernels enable VTL1, both for the partition and each for itself; whoever comes into VTL1 enables the other VP. */
const enabling = (policy: Policy): Scenario => ({
  name: `enable, ${policy}`,
  rebuilds: true,
  build: () => {
    const guest = booted({ vps: VPS, policy });
    const calls = new Calls(guest);
    const partition = calls.make(HvCall.EnablePartitionVtl, { header: { targetPartitionId: SELF, targetVtl: 1, flags: 0 } });
    /** A call, and a flag where it succeeds. */
    const noting = (call: Step, at: number, flag: Step): readonly Step[] => [call, { op: 'jumpIf', register: 'rax', equals: 0, to: at + 3 }, { op: 'jump', to: at + 4 }, flag];
    const openInterface: readonly Step[] = [{ op: 'wrmsr', index: HvMsr.GuestOsId, value: OS_ID }, { op: 'wrmsr', index: HvMsr.Hypercall, value: hypercallPage(1) | 1 }];
    const programs = [0, 1].map((vp): readonly (readonly Step[])[] => [
      [...noting(partition, 0, say(vp, 0, Said.First)), ...noting(calls.enableVp(vp), 4, say(vp, 0, Said.Second)), vtlCall],
      [...openInterface, ...noting(calls.enableVp(1 - vp), 2, say(vp, 1, Said.Second)), ...backFrom(6)],
    ]);
    const count = (flags: readonly (readonly [vp: number, vtl: number, what: number])[]): number => flags.filter(([vp, vtl, what]) => isSet(guest, vp, vtl, what)).length;
    return world(guest, {
      programs,
      vectors: [],
      settled: () => {
        const why: string[] = [];
        const partitions = count([[0, 0, Said.First], [1, 0, Said.First]]);
        if (partitions !== 1) why.push(`VTL1 was enabled ${partitions} times`);
        for (const vp of [0, 1]) {
          const times = count([[vp, 0, Said.Second], [1 - vp, 1, Said.Second]]);
          if (times !== 1) why.push(`VTL1 was enabled ${times} times on VP ${vp}`);
          if (!guest.machine.vp(vp).planes[PlaneId(1)]) why.push(`VP ${vp} has no VTL1`);
        }
        return why;
      },
    }, new Int32Array(1));
  },
});

/** Calls and returns while interrupts come for both VTLs of both VPs; VTL1 is notified of those for VTL0. */
const calling = (policy: Policy): Scenario => ({
  name: `call and return, ${policy}`,
  build: () => {
    const guest = ready({ vps: VPS, policy });
    for (let vp = 0; vp < VPS; vp++) {
      guest.enter(vp);
      guest.put('VsmVina', 0x1_00n | 0x2_00n | 0x90n, { vp });
      guest.leave(vp);
      guest.plain({ op: 'work' }, vp);
    }
    listening(guest);
    const secure: readonly Step[] = [{ op: 'work' }, vtlReturn, { op: 'jump', to: 0 }];
    return world(guest, {
      programs: [[[vtlCall, { op: 'work' }, vtlCall], secure], [[{ op: 'cli' }, vtlCall, { op: 'sti' }], secure]],
      vectors: [0x50, 0x90, 0xa0],
      sent: [[0, 0, 0x50], [0, 1, 0xa0], [1, 0, 0x50], [1, 1, 0xa0]],
    }, new Int32Array(4));
  },
});

/** VP 1 takes a page from VTL0 while both VPs use it; VTL1 of each grants it again when it is told of a refused access. */
const intercepting = (policy: Policy): Scenario => ({
  name: `intercept, ${policy}`,
  build: () => {
    const guest = secured(policy);
    const calls = new Calls(guest);
    const granting = (vp: number): Readonly<Record<string, readonly Step[]>> => ({ [SINT0]: [{ op: 'write', gpa: simPage(vp, 1), size: 4, value: 0 }, { op: 'wrmsr', index: HvMsr.Eom, value: 0 }, calls.protect(0xf), { op: 'eoi' }] });
    const notes = new Int32Array(8);
    // By VP: accesses refused, messages, messages taken.
    const [REFUSED, TOLD, TAKEN] = [2, 4, 6] as const;
    const count = (at: number, vp: number): void => void notes[at + vp]!++;
    guest.machine.hooks.trace = {
      entered: () => {}, answer: () => {}, switched: () => {}, accepted: () => {}, vmExit: () => {}, input: () => {}, permission: () => {},
      exit: (c, exit) => {
        if (exit.kind === 'memoryFault') count(REFUSED, c.vp.index);
        else if (exit.kind === 'msr' && exit.key === HvMsr.Eom) count(TAKEN, c.vp.index);
      },
      note: (c, kind) => {
        if (kind === 'hv-intercept') count(TOLD, c.vp.index);
      },
    };
    return world(guest, {
      programs: [
        [[{ op: 'write', gpa: DATA, value: 7 }, { op: 'read', gpa: DATA + 8 }, say(0, 0, Said.Finished)], backFrom(0)],
        [[vtlCall, { op: 'write', gpa: DATA + 8, value: 9 }, say(1, 0, Said.Finished)], [calls.protect(0), isOneDone, ...backFrom(2)]],
      ],
      handlers: [[{}, granting(0)], [{}, granting(1)]],
      vectors: [0xa0],
      sent: [[0, 1, 0xa0], [1, 1, 0xa0]],
      settled: () => {
        const why: string[] = [];
        for (const vp of [0, 1]) {
          const [refused, told, taken] = [REFUSED, TOLD, TAKEN].map((at) => notes[at + vp]!);
          if (refused !== told || told !== taken) why.push(`VP ${vp}: ${refused} accesses were refused, VTL1 was told ${told} times and took ${taken} messages`);
          if (!isSet(guest, vp, 0, Said.Finished)) why.push(`VP ${vp}: an access was never done`);
        }
        if (guest.peek(0, DATA, 16).getUint8(0) !== 7 || guest.peek(0, DATA, 16).getUint8(8) !== 9) why.push('a write is lost');
        return why;
      },
    }, notes);
  },
});

/** Interrupts by call and by APIC: in VTL0, in VTL1, from VTL1 into VTL0, to the other VP and to the sender. */
const signalling = (policy: Policy): Scenario => ({
  name: `IPI, ${policy}`,
  build: () => {
    const guest = secured(policy);
    const calls = new Calls(guest);
    return world(guest, {
      programs: [
        [[calls.ipi(0x51, 0, 0b10n), isZero, vtlCall], [calls.ipi(0xb1, 0, 0b10n), calls.ipi(0x52, target(0), 0b11n), ...backFrom(2)]],
        [[{ op: 'ipi', icr: 0x4053n }, vtlCall], [calls.ipi(0xb2, target(1), 0b11n), ...backFrom(1)]],
      ],
      vectors: [0x51, 0x52, 0x53, 0xa0, 0xb1, 0xb2],
      sent: [[0, 1, 0xa0]],
      own: [[1, 0, 0x51], [1, 1, 0xb1], [0, 0, 0x52], [1, 0, 0x52], [0, 0, 0x53], [0, 1, 0xb2], [1, 1, 0xb2]],
    }, new Int32Array(1));
  },
});

/** VTL1 of VP 0 keeps translations of its VTL0 in place while VP 1 asks for a flush of all VPs. */
const locking = (policy: Policy, ending: 'return' | 'unlock', breakIt: (guest: Guest) => void = () => {}): Scenario => ({
  name: `TLB lock that ends with ${ending}, ${policy}`,
  build: () => {
    const guest = secured(policy);
    const { vsm } = guest.hv.chapters;
    const isLocked = vsm.isTlbLocked.bind(vsm);
    breakIt(guest);
    const calls = new Calls(guest);
    const notes = new Int32Array(8);
    // Flushes by VP, flushes under a lock, flushes that had to wait.
    const [FLUSHED, LOCKED, WAITED] = [3, 5, 6] as const;
    guest.hv.chapters.hypercalls.flushPort = {
      flushSpace: (of) => {
        notes[FLUSHED + of.vp.index]!++;
        if (isLocked(of.vp, of.plane)) notes[LOCKED] = 1;
      },
      flushRange: () => {},
    };
    const flush = calls.make(HvCall.FlushVirtualAddressSpace, { header: { addressSpace: 0n, flags: 3n, processorMask: 0n } });
    const lock = calls.put(HvRegister.VsmVpSecureConfigVtl0, 2n), unlock = calls.put(HvRegister.VsmVpSecureConfigVtl0, 0n);
    guest.machine.hooks.trace = {
      entered: () => {}, switched: () => {}, accepted: () => {}, vmExit: () => {}, input: () => {}, permission: () => {}, exit: () => {}, note: () => {},
      answer: (c, answer) => {
        if (answer.kind === 'wait' && c.vp.index === 1) notes[WAITED] = 1;
      },
    };
    const secure = ending === 'return' ? [lock, isOneDone, { op: 'work' } as const, ...backFrom(3)] : [lock, isOneDone, { op: 'work' } as const, unlock, isOneDone, { op: 'work' } as const, ...backFrom(6)];
    return world(guest, {
      programs: [[[vtlCall, { op: 'work' }], secure], [[flush, isZero, say(1, 0, Said.Finished)], backFrom(0)]],
      vectors: [0x50, 0xa0],
      sent: [[1, 1, 0xa0], [1, 0, 0x50], [0, 1, 0xa0]],
      settled: () => {
        const why: string[] = [];
        if (!isSet(guest, 1, 0, Said.Finished)) why.push('the flush is not done');
        if (notes[LOCKED] === 1) why.push('translations were flushed under a lock');
        if (notes[FLUSHED] !== 1 || notes[FLUSHED + 1] !== 1) why.push(`flushed ${notes[FLUSHED]} and ${notes[FLUSHED + 1]} times`);
        return why;
      },
    }, notes);
  },
});

/** Whether the flush of a locking scenario waited on the way to this state. */
export const flushWaited = ({ notes }: { readonly notes: Int32Array }): boolean => notes[6] === 1;

/** Every scenario by its name. */
export const scenarios = {
  enable: enabling,
  'call and return': calling,
  intercept: intercepting,
  IPI: signalling,
  'TLB lock until the return': (policy: Policy) => locking(policy, 'return'),
  'TLB lock until it is taken off': (policy: Policy) => locking(policy, 'unlock'),
} as const satisfies Readonly<Record<string, (policy: Policy) => Scenario>>;
export type ScenarioName = keyof typeof scenarios;
export const lockScenario = locking;
