import { AccessResult, PlaneId, Right } from '@vmplanes/engine';
import { type Step, type StepResult } from '@vmplanes/x86';
import { describe, expect, it } from 'vitest';
import { generator, payloadOf, type Rig, rigOf } from '../engine/rig.ts';

const P = 1n;
const W = 2n;
const U = 4n;
const NX = 1n << 63n;
const table = { root: 0x1000, pdpt: 0x2000, pd: 0x3000, pt: 0x4000 } as const;

/** 4-level tables that map linear 0..0x1fffff to the same physical pages, each with the rights given by page number. */
const tables = (rig: Rig, leaf: (page: number) => bigint): void => {
  const { memory } = rig.machine;
  const put = (at: number, value: bigint): void => {
    memory.access.writeU64(memory.subjects[0]!.host, at, Number(value & 0xffff_ffffn), Number(value >> 32n));
  };
  put(table.root, BigInt(table.pdpt) | P | W | U);
  put(table.pdpt, BigInt(table.pd) | P | W | U);
  put(table.pd, BigInt(table.pt) | P | W | U);
  for (let page = 0; page < 32; page++) put(table.pt + page * 8, leaf(page) === 0n ? 0n : BigInt(page << 12) | leaf(page));
};

const paging: readonly Step[] = [
  { op: 'mov', to: 'cr4', value: 0x20 },
  { op: 'wrmsr', index: 0xc0000080, value: 0x900 },
  { op: 'mov', to: 'cr3', value: table.root },
  { op: 'mov', to: 'cr0', value: 0x8001_0011n },
];

const rigWith = (steps: readonly Step[], leaf: (page: number) => bigint): { rig: Rig; out: StepResult[] } => {
  const out: StepResult[] = [];
  const rig = rigOf({
    guests: [{ 0: generator('walks', function* () {
      for (const step of paging) expect((yield step).fault).toBeNull();
      for (const step of steps) out.push(yield step);
    }) }],
  });
  rig.machine.memory.addSlot({ id: 0, gpa: 0, size: 0x18000 });
  tables(rig, leaf);
  return { rig, out };
};
const all = (): bigint => P | W | U;

describe('linear addresses of scripted guests', () => {
  it('are translated through the plane\'s own tables', () => {
    const { rig, out } = rigWith([{ op: 'write', gva: 0x10008, value: 0x1234 }, { op: 'read', gva: 0x10008 }, { op: 'read', gpa: 0x10008, regs: { rax: 0 } }, { op: 'execute', gva: 0x10000 }], all);
    expect(rig.kind()).toBe('idle');
    expect(out.map((r) => r.fault)).toEqual([null, null, null, null]);
    expect([out[1]!.rax, out[2]!.rax]).toEqual([0x1234n, 0x1234n]);
  });

  // Page 5 absent, 6 read-only, 7 supervisor, 8 no execute. @spec SDM 3A §4.7 figure 4-12
  const leaf = (page: number): bigint => (page === 5 ? 0n : page === 6 ? P | U : page === 7 ? P | W : page === 8 ? P | W | U | NX : P | W | U);
  it.each([
    ['a read of an absent page', { op: 'read', gva: 0x5123 }, 0b00000, 0x5123n],
    ['a write of an absent page', { op: 'write', gva: 0x5123, value: 1 }, 0b00010, 0x5123n],
    ['a fetch of an absent page', { op: 'execute', gva: 0x5000 }, 0b10000, 0x5000n],
    ['a user fetch of an absent page', { op: 'execute', gva: 0x5000, user: true }, 0b10100, 0x5000n],
    ['a write of a read-only page with CR0.WP', { op: 'write', gva: 0x6ff8, value: 1 }, 0b00011, 0x6ff8n],
    ['a user fetch of a supervisor page', { op: 'execute', gva: 0x7001, user: true }, 0b10101, 0x7001n],
    ['a fetch of a no-execute page', { op: 'execute', gva: 0x8000 }, 0b10001, 0x8000n],
  ] as const)('%s: #PF with its error code and CR2', (_name, step, errorCode, address) => {
    const { rig, out } = rigWith([step], leaf);
    rig.run();
    expect(out[0]!.fault).toEqual({ vector: 14, errorCode, address });
    expect(rig.get(0, 0, 'cr2')).toBe(address);
  });

  it('a reserved bit in an entry shows in the error code (SDM 3A §4.7)', () => {
    const { rig, out } = rigWith([{ op: 'read', gva: 0x9000 }], (page) => (page === 9 ? P | W | (1n << 51n) : all()));
    rig.run();
    expect(out[0]!.fault).toEqual({ vector: 14, errorCode: 0b1001, address: 0x9000n });
  });

  it('a non-canonical address is #GP(0) (SDM 1 §3.3.7.1)', () => {
    const { rig, out } = rigWith([{ op: 'read', gva: 0x8000_0000_0000n }], all);
    rig.run();
    expect(out[0]!.fault).toEqual({ vector: 13, errorCode: 0, address: 0n });
  });

  it('accessed and dirty flags are set in the tables (SDM 3A §4.8)', () => {
    const { rig } = rigWith([{ op: 'read', gva: 0xa000 }, { op: 'write', gva: 0xb000, value: 1 }], all);
    rig.run();
    const { access, subjects } = rig.machine.memory;
    const flags = [0xa, 0xb].map((page) => (access.readU64(subjects[0]!.host, table.pt + page * 8), access.lo & 0x60));
    expect(flags).toEqual([0x20, 0x60]);
  });

  it('a leaf that the plane may not access: a memory fault with both addresses', () => {
    const { rig } = rigWith([{ op: 'write', gva: 0xc010, value: 1 }], all);
    rig.machine.memory.permissions[0]!.revoke(0xc, 1, Right.Write);
    expect(rig.kind()).toBe('exit');
    expect(payloadOf(rig.vps[0]!)).toMatchObject({ kind: 'memoryFault', info: { gpa: 0xc010, gvaLo: 0xc010, gvaHi: 0, hasGva: true, isWalk: false, access: Right.Write, missing: Right.Write, result: AccessResult.Denied, plane: 0 } });
  });

  it('a table that the plane may not read: a memory fault of the walk, at the entry', () => {
    const { rig } = rigWith([{ op: 'read', gva: 0xc010 }], all);
    rig.machine.memory.permissions[0]!.revoke(table.pt >> 12, 1, Right.Read | Right.Write);
    expect(rig.kind()).toBe('exit');
    expect(payloadOf(rig.vps[0]!)).toMatchObject({ kind: 'memoryFault', info: { gpa: table.pt + 0xc * 8, gvaLo: 0xc010, hasGva: true, isWalk: true, result: AccessResult.Denied } });
    rig.machine.memory.permissions[0]!.grant(table.pt >> 12, 1, Right.Read | Right.Write);
    expect(rig.kind()).toBe('idle');
  });

  it('a leaf without memory is a device access', () => {
    const { rig, out } = rigWith([{ op: 'read', gva: 0x19004, size: 4 }], all);
    expect(rig.kind()).toBe('exit');
    expect(payloadOf(rig.vps[0]!)).toEqual({ kind: 'mmio', write: false, gpa: 0x19004, size: 4, lo: 0, hi: 0 });
    rig.machine.reply(rig.vps[0]!.context, { lo: 7 });
    rig.run();
    expect(out[0]!.rax).toBe(7n);
  });

  it('each plane walks its own tables', () => {
    const { rig, out } = rigWith([{ op: 'read', gva: 0x10000 }], leaf);
    const other = rig.machine.createPlane(rig.vps[0]!, PlaneId(1));
    rig.run(1);
    expect(out[0]!.fault).toBeNull();
    // Paging is off there.
    expect([rig.arch.translate(rig.vps[0]!.plane(0), 0x5000n).valid, rig.arch.translate(other, 0x5000n)]).toMatchObject([false, { valid: true, gpa: 0x5000 }]);
  });
});
