import type { Arena } from '@vmplanes/engine';
import { CONTEXT_SIZE, type RegisterName, x86ContextLayout, isRegisterName } from './layout.ts';
import { readRegister, writeRegister } from './registers.ts';

/** Power-on or RESET#, against INIT, which leaves much of the state alone. */
export const ResetKind = { powerOn: 'powerOn', init: 'init' } as const;
export type ResetKind = keyof typeof ResetKind;
export const isResetKind = (kind: string): kind is ResetKind => Object.hasOwn(ResetKind, kind);

/** What a reset takes from the CPU model. */
export interface ResetParameters {
  /** CPUID.1:EAX, which RDX holds after a reset. */
  readonly signature: number;
  /** Bits of MXCSR that exist: 0xffff, or 0x2ffff with misaligned SSE. */
  readonly mxcsrMask: number;
}

/** Value after a reset; `keep` leaves the cell alone, a function derives it from the old value. */
type Effect = bigint | 'keep' | ((old: bigint, parameters: ResetParameters) => bigint);

const KEEP = 'keep';

/**
 * One row for a cell or a group: value after power-on, value after INIT. A row for a cell wins over rows for its groups, an earlier row over a later one.
 * The TSC starts at machine time plus `tscOffset`: who owns machine time sets the offset when the count shall start at zero.
 * @spec SDM 3A Table 10-1 (processor states following power-up, reset, or INIT); APM2 §14.1.3 Tables 14-1, 14-2
 */
const rows: readonly (readonly [cell: string, powerOn: Effect, init: Effect])[] = [
  ['rdx', (_, p) => BigInt(p.signature), (_, p) => BigInt(p.signature)],
  ['gpr', 0n, 0n],
  ['rip', 0xfff0n, 0xfff0n],
  ['rflags', 2n, 2n],
  // INIT keeps the two cache bits.
  ['cr0', 0x6000_0010n, (old) => (old & 0x6000_0000n) | 0x10n],
  ['xcr0', 1n, KEEP],
  ['xss', 0n, KEEP],
  ['control', 0n, 0n],
  ['dr6', 0xffff_0ff0n, 0xffff_0ff0n],
  ['dr7', 0x400n, 0x400n],
  ['debug', 0n, 0n],
  // FCW 0040H, FSW 0, tag word 5555H (no register empty): not what FNINIT gives.
  ['x87.environment', 0xff_0000_0040n, KEEP],
  ['mxcsr', 0x1f80n, KEEP],
  ['mxcsrMask', (_, p) => BigInt(p.mxcsrMask), KEEP],
  ['fpu', 0n, KEEP],
  ['pkru', 0n, KEEP],
  ['cs.selector', 0xf000n, 0xf000n],
  ['cs.attributes', 0x9bn, 0x9bn],
  ['cs.base', 0xffff_0000n, 0xffff_0000n],
  ...['es', 'ss', 'ds', 'fs', 'gs'].map((s) => [`${s}.attributes`, 0x93n, 0x93n] as const),
  ['ldtr.attributes', 0x82n, 0x82n],
  ['tr.attributes', 0x8bn, 0x8bn],
  ...['es', 'cs', 'ss', 'ds', 'fs', 'gs', 'ldtr', 'tr', 'gdtr', 'idtr'].map((s) => [`${s}.limit`, 0xffffn, 0xffffn] as const),
  ['segments', 0n, 0n],
  ['pat', 0x0007_0406_0007_0406n, KEEP],
  ['tscScale', 1n << 32n, KEEP],
  // Fast strings on; branch trace storage and PEBS not available.
  ['miscEnable', 0x1801n, KEEP],
  ['smbase', 0x3_0000n, KEEP],
  ['specCtrl', 0n, 0n],
  ['virtSpecCtrl', 0n, 0n],
  ['debugCtl', 0n, 0n],
  // What the machine was built with survives every reset.
  ['mcgCap', KEEP, KEEP],
  ['patchLevel', KEEP, KEEP],
  ['cet', 0n, 0n],
  ['msr', 0n, KEEP],
  ['events', 0n, 0n],
];

/** The row that decides about a cell, or undefined. */
function rowOf(name: string, groups: readonly string[]) {
  return rows.find(([cell]) => cell === name) ?? rows.find(([cell]) => groups.includes(cell));
}

const effects = x86ContextLayout.registers.flatMap((r) => {
  const row = rowOf(r.name, r.groups ?? []);
  return row && isRegisterName(r.name) && r.architectural !== false ? [{ name: r.name, powerOn: row[1], init: row[2] }] : [];
});

/** Cells that a reset decides about, in layout order; a test holds that none is missing. */
export const resetCells: readonly RegisterName[] = effects.map((e) => e.name);

/**
 * Puts a context block into the state after power-on or INIT. The local APIC and the engine's schedule and activity are not part of the block.
 *
 * @param base - byte offset of the context block in the arena
 * @spec SDM 3A §10.1.1; APM2 §14.1.3
 */
export function resetContext(arena: Arena, base: number, kind: ResetKind, parameters: ResetParameters): void {
  for (const effect of effects) {
    const value = effect[kind];
    if (value === 'keep') continue;
    writeRegister(arena, base, effect.name, typeof value === 'bigint' ? value : value(readRegister(arena, base, effect.name), parameters));
  }
}

/** Puts a new context block into the power-on state, whatever its memory held before. */
export function initializeContext(arena: Arena, base: number, parameters: ResetParameters): void {
  arena.u8.fill(0, base, base + CONTEXT_SIZE);
  resetContext(arena, base, 'powerOn', parameters);
}
