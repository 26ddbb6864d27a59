import { Ghcb, type GhcbField, ghcbValidBit } from '@vmplanes/abi-sev-snp';
import { PAGE_SIZE } from '@vmplanes/engine';
import { ApicReg, encodeMessage, DeliveryMode, type GeneratorScript, type Step, type StepResult, writeRegister } from '@vmplanes/x86';
import { describe, expect, it } from 'vitest';
import { C, GHCB_MSR, SNP, VmplRig, type VmplRigOptions, vmsaOf } from './vmpl-rig.ts';

// The whole personality, with guests that do what Linux and COCONUT-SVSM do: they fill a page, write the MSR and exit.

const PAGE = 0x80;
/** Shared pages of each VMPL, and one for data. */
const ghcbOf = (vmpl = 0): number => (PAGE + vmpl) * PAGE_SIZE;
const DATA = (PAGE + 8) * PAGE_SIZE;
/** A private page of the guest. */
const OWN = 0x90;
const hlt: Step = { op: 'hlt' };

type Guest<T = void> = Generator<Step, T, StepResult>;
type Fields = Partial<Readonly<Record<GhcbField, number | bigint>>>;

function* vmgexit(value: bigint | number): Guest {
  yield { op: 'wrmsr', index: GHCB_MSR, value };
  yield { op: 'call', via: 'vmgexit' };
}
function* msr(value: bigint | number): Guest<bigint> {
  yield* vmgexit(value);
  return (yield { op: 'rdmsr', index: GHCB_MSR }).edxEax;
}
function* load(gpa: number): Guest<bigint> {
  return (yield { op: 'read', gpa, size: 8 }).rax;
}
/** One event: what the page says afterwards. */
function* event(code: number, info1: number | bigint, info2: number | bigint, fields: Fields = {}, page = ghcbOf()): Guest<{ readonly info1: bigint; readonly info2: bigint; readonly rax: bigint; readonly rbx: bigint }> {
  let bitmap = 0n;
  for (const [name, value] of Object.entries({ swExitCode: code, swExitInfo1: info1, swExitInfo2: info2, ...fields })) {
    yield { op: 'write', gpa: page + Ghcb.at[name as GhcbField], value: BigInt.asUintN(64, BigInt(value)), size: 8 };
    bitmap |= 1n << BigInt(ghcbValidBit[name as GhcbField]);
  }
  yield { op: 'write', gpa: page + Ghcb.at.validBitmap, value: bitmap & (2n ** 64n - 1n), size: 8 };
  yield { op: 'write', gpa: page + Ghcb.at.validBitmap + 8, value: bitmap >> 64n, size: 8 };
  yield* vmgexit(page);
  const { at } = Ghcb;
  return { info1: yield* load(page + at.swExitInfo1), info2: yield* load(page + at.swExitInfo2), rax: yield* load(page + at.rax), rbx: yield* load(page + at.rbx) };
}
const register = (page = ghcbOf()): Guest<bigint> => msr(page + 0x12);
const guest = (id: string, main: () => Guest): GeneratorScript => ({ id, main });

/** Runs a guest of VMPL 0 in the whole machine; what it collects, and the machine. */
const run = (main: (seen: unknown[]) => Guest, options: VmplRigOptions = {}): { readonly seen: unknown[]; readonly rig: VmplRig; readonly exits: readonly unknown[] } => {
  const seen: unknown[] = [];
  const rig = new VmplRig({ whole: true, ...options, programs: [{ ...options.programs?.[0], 0: guest('VMPL0', () => main(seen)) }, ...(options.programs?.slice(1) ?? [])] });
  rig.own(OWN);
  const exits = rig.run();
  expect(rig.failure()).toBeNull();
  return { seen, rig, exits };
};

describe('a guest in the whole machine', () => {
  it('finds out versions, C-bit and features, registers its page, and uses it', () => {
    const { seen } = run(function* (out) {
      out.push((yield { op: 'rdmsr', index: GHCB_MSR }).edxEax, yield* msr(2), yield* msr(0x80), yield* register());
      out.push(yield* event(0x8000_fffd, 0, 0));
    });
    expect(seen).toEqual([0x0002_0001_3300_0001n, 0x0002_0001_3300_0001n, 0x3_7081n, BigInt(ghcbOf() + 0x13), { info1: 0n, info2: 0x37n, rax: 0n, rbx: 0n }]);
  });
  it('may not use a page before it is registered', () => {
    const { seen } = run(function* (out) {
      out.push(yield* event(0x8000_fffd, 0, 0));
    });
    expect(seen).toMatchObject([{ info1: 2n, info2: 1n }]);
  });
  it('takes a page back: private, then validated, then used', () => {
    const { seen, rig } = run(function* (out) {
      yield* register();
      yield { op: 'write', gpa: DATA + 0x1000, value: 0x77 };
      const list = ghcbOf() + 0x800;
      yield { op: 'write', gpa: list, value: 0 };
      yield { op: 'write', gpa: list + 8, value: BigInt(DATA + 0x1000) | (1n << 52n) };
      out.push(yield* event(0x8000_0010, 0, 0, { swScratch: list }), yield* load(list), (yield* load(list + 8)) & 0xfffn);
      const early = yield { op: 'read', gpa: DATA + 0x1000 + C };
      out.push(early.fault?.vector, early.fault?.errorCode);
      const valid = yield { op: 'instruction', name: 'pvalidate', regs: { rax: DATA + 0x1000, rcx: 0, rdx: 1 } };
      out.push(valid.rax, yield* load(DATA + 0x1000 + C));
    });
    expect(seen).toEqual([expect.objectContaining({ info1: 0n, info2: 0n }), 1n, 1n, 29, 0x404, 0n, 0n]);
    expect(rig.machine.memory.isPrivate((DATA + 0x1000) / PAGE_SIZE)).toBe(true);
  });
  it('gives a page away by MSR: its content is gone, and reading it as private leaves to the host', () => {
    const { seen, exits } = run(function* (out) {
      yield { op: 'write', gpa: OWN * PAGE_SIZE + C, value: 0x5ec4e7 };
      out.push(yield* msr((2n << 52n) | (BigInt(OWN) << 12n) | 0x14n), yield* load(OWN * PAGE_SIZE));
      yield { op: 'read', gpa: OWN * PAGE_SIZE + C };
    });
    expect(seen).toEqual([0x15n, 0n]);
    expect(exits).toHaveLength(1);
  });
  it('is refused a change of state by #GP nowhere: errors are in the page', () => {
    const { seen, exits } = run(function* (out) {
      yield* register();
      for (const [info1, info2] of [[0xffff_ffff_f000n, 1n], [1n, 2n]] as const) out.push((yield* event(0x8000_0011, info1, info2)).info2);
      out.push((yield* event(0x8000_0001, 0xfed0_0000, 9, { swScratch: ghcbOf() + 0x800 })).info2);
    });
    expect([seen, exits]).toEqual([[4n, 4n, 5n], []]);
  });
});

describe('Run VMPL in the whole machine', () => {
  const lower = guest('VMPL2', function* () {
    yield { op: 'work', regs: { rcx: 0x55 } };
    yield* vmgexit(0x16);
    yield { op: 'work', regs: { rcx: 0x66 } };
    yield* vmgexit(0x16);
    yield hlt;
  });
  it('by page and by MSR: the reply is there when the caller runs again, and VMPL 0 sees exit and registers of VMPL 2', () => {
    const { seen, rig } = run(
      function* (out) {
        yield* register();
        const reply = yield* event(0x8000_0018, 2, 0);
        out.push(reply.info1, reply.info2, yield* load(vmsaOf(0, 2) + 0x3c0 + C), yield* load(vmsaOf(0, 2) + 0x308 + C));
        out.push(yield* msr((2n << 32n) | 0x16n), yield* load(vmsaOf(0, 2) + 0x308 + C));
      },
      { programs: [{ 2: lower }] },
    );
    expect(seen).toEqual([0n, 0n, 0x403n, 0x55n, 0x17n, 0x66n]);
    expect(rig.vp().current).toBe(0);
  });
  it('what VMPL 0 writes into the save area is what VMPL 2 goes on with', () => {
    const { rig } = run(
      function* () {
        yield* register();
        yield* event(0x8000_0018, 2, 0);
        yield { op: 'write', gpa: vmsaOf(0, 2) + 0x318 + C, value: 0x1234 };
        yield* event(0x8000_0018, 2, 0);
      },
      { programs: [{ 2: lower }] },
    );
    expect(rig.get('rbx', 0, 2)).toBe(0x1234n);
  });
  it('of a VMPL without a save area is 2/5, and the caller goes on', () => {
    const { seen } = run(
      function* (out) {
        yield* register();
        const { info1, info2 } = yield* event(0x8000_0018, 3, 0);
        out.push(info1, info2);
      },
      { vmsas: [0, 2] },
    );
    expect(seen).toEqual([2n, 5n]);
  });
});

describe('AP creation in the whole machine', () => {
  const AP = 0x98 * PAGE_SIZE;
  const flag = DATA + 0x2000;
  const ap = guest('AP', function* () {
    yield { op: 'write', gpa: flag, value: 7 };
    yield hlt;
  });
  it('starts a processor from the save area that the guest made', () => {
    const { seen, rig } = run(
      function* (out) {
        yield* register();
        out.push(yield* event(0x8000_0013, (1n << 32n) | 1n, vmsaOf(1, 0), { rax: SNP }));
        for (let i = 0; i < 400; i++) yield { op: 'work' };
        out.push(yield* load(flag));
      },
      { vps: 2, programs: [{}, { 0: ap }] },
    );
    expect(seen).toEqual([expect.objectContaining({ info1: 0n, info2: 0n }), 7n]);
    expect(rig.isHalted(1)).toBe(true);
  });
  it.each<[string, bigint, number, bigint, bigint]>([
    ['an APIC id that nobody has', (9n << 32n) | 1n, AP, SNP, 5n],
    ['a save area that is not aligned', (1n << 32n) | 1n, AP + 8, SNP, 5n],
    ['features without SNP', (1n << 32n) | 1n, AP, 0n, 5n],
    ['an unknown request', (1n << 32n) | 3n, AP, SNP, 5n],
    ['itself', 1n, AP, SNP, 5n],
    ['VMPL 9', (1n << 32n) | 0x9_0001n, AP, SNP, 5n],
  ])('%s: 2/5', (_what, info1, vmsa, rax, reason) => {
    const { seen } = run(
      function* (out) {
        yield* register();
        const reply = yield* event(0x8000_0013, info1, vmsa, { rax });
        out.push(reply.info1, reply.info2);
      },
      { vps: 2, programs: [{}, { 0: [hlt] }] },
    );
    expect(seen).toEqual([2n, reason]);
  });
});

describe('the doorbell in the whole machine', () => {
  it('is asked about, set, told and cleared', () => {
    const { seen } = run(function* (out) {
      yield* register();
      for (const [request, gpa] of [[0, 0], [2, 0], [1, DATA], [2, 0], [3, 0], [2, 0], [1, DATA + 8], [1, OWN * PAGE_SIZE], [7, 0]] as const) {
        const { info1, info2 } = yield* event(0x8000_0014, request, gpa);
        out.push([info1, info2]);
      }
    });
    expect(seen).toEqual([[0n, 2n ** 64n - 1n], [0n, 0n], [0n, BigInt(DATA)], [0n, BigInt(DATA)], [0n, 0n], [0n, 0n], [2n, 5n], [2n, 5n], [2n, 5n]]);
  });
  it('an IPI to itself by the page reaches the local APIC', () => {
    const { rig } = run(function* () {
      yield* register();
      yield* event(0x8000_0015, 0x4_4041n, 0);
    });
    expect(rig.arch.apicOf(rig.context()).block.test(ApicReg.irr, 0x41)).toBe(true);
  });
  it('APIC ids are in the list', () => {
    const { seen } = run(function* (out) {
      yield* register();
      out.push((yield* event(0x8000_0017, DATA, 0, { rax: 1 })).rax, yield* load(DATA));
    });
    expect(seen).toEqual([1n, 1n]);
  });
});

describe('guest requests in the whole machine', () => {
  it('a message that nobody encrypted is refused by the firmware, and the guest goes on', () => {
    const { seen, exits } = run(function* (out) {
      yield* register();
      const plain = yield* event(0x8000_0011, DATA, DATA + PAGE_SIZE);
      const extended = yield* event(0x8000_0012, DATA, DATA + PAGE_SIZE, { rax: DATA + 2 * PAGE_SIZE, rbx: 1 });
      out.push(plain.info1, plain.info2 > 0n, plain.info2 >> 32n, extended.info1, extended.info2 > 0n);
    });
    expect([seen, exits]).toEqual([[0n, true, 0n, 0n, true], []]);
  });
});

describe('an SEV-ES guest in the whole machine', () => {
  it('holds its processor until a start-up message, and reads the jump table', () => {
    const rig = new VmplRig({
      whole: true,
      level: 'sev-es',
      vps: 2,
      programs: [
        { 0: guest('BSP', function* () {
          yield* event(0x8000_0005, 0, 0x9000);
          yield hlt;
        }) },
        { 0: guest('AP', function* () {
          const held = yield* event(0x8000_0004, 0, 0);
          const table = yield* event(0x8000_0005, 1, 0);
          yield { op: 'work', regs: { rsi: held.info2, rdi: table.info2 } };
          yield hlt;
        }) },
      ],
    });
    rig.run();
    rig.machine.send(1, 0, encodeMessage(DeliveryMode.startUp, 0x10, true, false), 0);
    rig.run();
    expect(rig.failure(1)).toBeNull();
    rig.machine.send(1, 0, encodeMessage(DeliveryMode.init, 0, true, false), 0);
    rig.machine.send(1, 0, encodeMessage(DeliveryMode.startUp, 0x10, true, false), 0);
    rig.run();
    expect([rig.get('rsi', 1), rig.get('rdi', 1)]).toEqual([1n, 0x9000n]);
  });
  it('has no page states to change: 2/4', () => {
    const { seen } = run(
      function* (out) {
        const { info1, info2 } = yield* event(0x8000_0010, 0, 0, { swScratch: ghcbOf() + 0x800 });
        out.push(info1, info2, yield* msr(0x80));
      },
      { level: 'sev-es' },
    );
    expect(seen).toEqual([2n, 4n, 0x81n]);
  });
});

it('a snapshot in the middle of a string goes on alike in the whole machine', () => {
  const seen: bigint[] = [];
  const options: VmplRigOptions = {
    whole: true,
    programs: [{ 0: guest('VMPL0', function* () {
      yield* register();
      const reply = yield* event(0x7b, 0x01f0_0045, 2, { swScratch: ghcbOf() + 0x800 });
      seen.push(reply.info1, yield* load(ghcbOf() + 0x800));
      yield hlt;
    }) }],
  };
  const rig = new VmplRig(options);
  rig.run();
  expect(rig.exits).toMatchObject([{ kind: 'io', port: 0x1f0, size: 4 }]);
  const other = new VmplRig(options);
  other.machine.restore(structuredClone(rig.machine.snapshot()));
  let value = 1;
  for (const each of [rig, other]) {
    value = 1;
    each.machine.reply(each.context(), { value: value++ });
    each.run(() => ({ value: value++ }));
    expect(each.failure()).toBeNull();
  }
  // The script of the restored machine ran its past again without it.
  expect(seen.slice(-4)).toEqual([0n, 0x2_0000_0001n, 0n, 0x2_0000_0001n]);
  writeRegister(other.machine.arena, other.context().base, 'rax', 0n);
});
