import { createScope } from '@vmplanes/di';
import { type CpuExit, HostError, installEngine, type Machine, MemoryFaultInfo, PlaneId, Schedule, type Vp } from '@vmplanes/engine';
import { HypervVtl, personality } from '@vmplanes/personality-hyperv-vtl';
import { type RegisterName, writeRegister, X86, X86Arch } from '@vmplanes/x86';
import { sample } from './measure.ts';
import { CallingCpu } from './rigs.ts';
import type { BenchRow } from './rows.ts';

const INPUT = 0x1_0000;
const CALL = { flushList: 0x03n, clusterIpi: 0x0bn } as const;
const FAST = 1n << 16n;
const count = (n: number): bigint => BigInt(n) << 32n;

/** A partition with two VPs, VTL0 and VTL1, whose first VP is in 64-bit code with a hypercall page. */
export const hypervRig = (): { readonly machine: Machine; readonly vp: Vp; readonly hv: HypervVtl } => {
  const scope = createScope();
  const arch = new X86Arch();
  const machine = installEngine(scope, { arch, policy: 'highest-runnable', rule: 'deliverable', options: { maxVps: 2, maxPlanes: 2, memoryBytes: 1 << 20 } });
  const options = { repBudget: 1_000_000_000 };
  const hv = personality.install(scope, options);
  if (!(hv instanceof HypervVtl) || !personality.meaning) throw new HostError('Internal', 'bench: not the Hyper-V personality');
  machine.setMeaning(personality.meaning(options));
  machine.addPersonality(hv);
  machine.memory.addSlot({ id: 0, gpa: 0, size: 0x4_0000 });
  for (let i = 0; i < 2; i++) {
    const vp = machine.createVp();
    machine.createPlane(vp, PlaneId(1));
    for (const context of vp.planes) {
      if (!context) continue;
      // Only the receiver of interrupts has its APIC enabled, so that the caller's exits compare with the bare ones.
      if (i > 0) arch.apicOf(context).writeSvr(0x1ff);
      for (const [name, value] of [['cr0', 0x8001_0001n], ['efer', 0xd00n], ['cs.attributes', 0x29bn]] as const) writeRegister(machine.arena, context.base, name, value);
    }
    vp.plane(0).activity = 0;
    vp.setSchedule(vp.plane(0), Schedule.Runnable);
    machine.setCpu(vp, new CallingCpu());
  }
  hv.chapters.hypercalls.setGuestOsId(0, 1n);
  hv.chapters.hypercalls.setHypercallMsr(0, 0x3_0001n);
  return { machine, vp: machine.vp(0), hv };
};

/** A machine whose guest does one thing without end. */
export interface HypervGuest {
  readonly machine: Machine;
  readonly vp: Vp;
}

/** Lets a guest issue `n` calls, or switches. */
export const runGuest = ({ machine, vp }: HypervGuest, n: number): void => {
  vp.sliceEnd = vp.retired + n;
  machine.runVp(vp);
};

/** Time of one operation of a guest. @param exits - of one operation. */
const timeOfGuest = (operations: number, guest: HypervGuest, exits = 1): number => sample(operations, (n) => runGuest(guest, exits * n));

/** A guest that issues one call over and over. @param input - words of its block in memory; empty for one in registers. */
const callingGuest = (registers: Partial<Record<RegisterName, bigint>>, input: readonly bigint[] = []): HypervGuest => {
  const { machine, vp } = hypervRig();
  const { access, subjects } = machine.memory;
  input.forEach((word, i) => access.writeU64(subjects[0]!.host, INPUT + 8 * i, Number(word & 0xffff_ffffn), Number(word >> 32n)));
  for (const [name, value] of Object.entries(registers)) writeRegister(machine.arena, vp.context.base, name as RegisterName, value);
  return { machine, vp };
};

/** A guest that issues a cluster IPI to nobody. @param slow - with its parameters in memory. */
export const simpleCallGuest = (slow: boolean): HypervGuest =>
  slow ? callingGuest({ rcx: CALL.clusterIpi, rdx: BigInt(INPUT) }, [0x40n, 0n]) : callingGuest({ rcx: CALL.clusterIpi | FAST, rdx: 0x40n, r8: 0n });

const flushList = (elements: number): number => {
  const list = Array.from({ length: elements }, (_, i) => BigInt(i) << 12n);
  return timeOfGuest(elements > 1 ? 1_000 : 20_000, callingGuest({ rcx: CALL.flushList | count(elements), rdx: BigInt(INPUT) }, [0n, 0n, 1n, ...list]));
};

/** VTL0 calls VTL1, which returns: registers are set as the stubs of the hypercall page do. */
class SwitchingCpu extends CallingCpu {
  constructor(readonly machine: Machine) {
    super();
  }
  override run(vp: Vp): CpuExit {
    const { u32 } = this.machine.arena;
    const word = vp.context.base >>> 2;
    const up = vp.current === 0;
    u32[word + X86.rcx / 4] = up ? 0x11 : 0x12;
    u32[word + X86.rcx / 4 + 1] = 0;
    u32[word + X86.rax / 4] = up ? 0 : 1;
    u32[word + X86.rax / 4 + 1] = 0;
    return super.run(vp);
  }
}

/** A guest of which VTL0 and VTL1 call each other, with an assist page. */
export const switchingGuest = (): HypervGuest => {
  const { machine, vp, hv } = hypervRig();
  hv.chapters.hypercalls.setGuestOsId(1, 1n);
  hv.chapters.hypercalls.setHypercallMsr(1, 0x3_1001n);
  hv.chapters.assist.setMsr(vp.plane(1), 0x3_2001n);
  machine.setCpu(vp, new SwitchingCpu(machine));
  return { machine, vp };
};

const PAGE = 0x20;
const VECTOR = 0x40;
const SIMP = 0x3_3000;

/** VTL0 is refused an access; VTL1 takes the message, frees the slot and returns. */
class RefusedCpu extends SwitchingCpu {
  readonly #fault = { kind: 'memoryFault' as const, key: 0, info: new MemoryFaultInfo() };
  override run(vp: Vp): CpuExit {
    const { context } = vp;
    const { memory, arena } = this.machine;
    if (vp.current !== 0) {
      arena.u32[(context.base + X86['interrupt.injected']) >>> 2] = 0;
      memory.access.writeU32(memory.subjects[1]!.host, SIMP, 0);
      return super.run(vp);
    }
    vp.retired += 1;
    context.retired += 1;
    const result = memory.access.readU8(memory.subjects[0]!.cpu, PAGE * 4096);
    memory.access.describe(this.#fault.info, memory.subjects[0]!.cpu, result, 1);
    return this.#fault;
  }
}

const intercepts = (): number => {
  const { machine, vp, hv } = hypervRig();
  const vtl1 = vp.plane(1);
  hv.chapters.hypercalls.setGuestOsId(1, 1n);
  hv.chapters.hypercalls.setHypercallMsr(1, 0x3_1001n);
  hv.arch.apicOf(vtl1).writeSvr(0x1ff);
  hv.chapters.synic.setScontrol(vtl1, 1n);
  hv.chapters.synic.setSimp(vtl1, BigInt(SIMP) | 1n);
  // Its end needs no EOI.
  hv.chapters.synic.setSint(vtl1, 0, BigInt(VECTOR) | (1n << 17n));
  writeRegister(machine.arena, vtl1.base, 'rflags', 0x202n);
  hv.chapters.protections.modify(1, PAGE, 0);
  machine.setCpu(vp, new RefusedCpu(machine));
  return timeOfGuest(10_000, { machine, vp }, 2);
};

/** The rows of the hypercall interface. */
export const hypervRows: readonly BenchRow[] = [
  { id: 'hyperv.call.fast', about: 'a simple hypercall in two registers: a cluster IPI to nobody', run: () => timeOfGuest(50_000, simpleCallGuest(false)) },
  { id: 'hyperv.call.slow', about: 'the same with its parameters in memory', run: () => timeOfGuest(50_000, simpleCallGuest(true)) },
  { id: 'hyperv.rep.1', about: 'a rep hypercall with one element: flush one range', run: () => flushList(1) },
  { id: 'hyperv.rep.500', about: 'the same with 500 elements', run: () => flushList(500) },
  { id: 'hyperv.vtl.roundtrip', about: 'VTL call and return, with an assist page', run: () => timeOfGuest(20_000, switchingGuest(), 2) },
  { id: 'hyperv.intercept', about: 'a refused access: message to VTL1, its entry and return', run: intercepts },
  { id: 'hyperv.ipi', about: 'a cluster IPI to another VP', run: () => timeOfGuest(50_000, callingGuest({ rcx: CALL.clusterIpi | FAST, rdx: 0x40n, r8: 2n })) },
];
