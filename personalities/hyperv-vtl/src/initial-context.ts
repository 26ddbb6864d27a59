import type { HvInitialVpContext } from '@vmplanes/abi-hyperv';
import type { Infer } from '@vmplanes/binary';
import type { Arena, PlaneContext } from '@vmplanes/engine';
import { type ControlState, Cr0Bit, type CpuFeatures, isCanonicalAddress, isFault, isLegalControlState, legalizePat, legalizeRflags, RflagsBit, withLma, writeRegister } from '@vmplanes/x86';
import { loadSegment, loadTable, SEGMENT_HOLE, toBlockAttributes } from './segments.ts';

/** The private state that a VTL begins with, decoded. */
export type InitialContext = Infer<typeof HvInitialVpContext>;

const segments = ['cs', 'ds', 'es', 'fs', 'gs', 'ss', 'tr', 'ldtr'] as const;
const LONG = 1 << 9;
const DEFAULT_SIZE = 1 << 10;
const DPL_SHIFT = 5;

/** EFER as it is held: LMA follows from LME and paging, whatever was given. @spec TLFS Virtual Secure Mode, VP enablement; SDM 3A §10.8.5 */
const controlsOf = ({ cr0, cr3, cr4, efer, cs }: InitialContext): ControlState => {
  const held = cr0 | Cr0Bit.et;
  return { cr0: held, cr3, cr4, efer: withLma(efer, held), csL: (toBlockAttributes(cs.attributes) & LONG) !== 0 };
};

/**
 * Whether a VTL can begin with this state.
 * @param vtl - above VTL0 there is no real mode and no virtual-8086 mode.
 * @spec TLFS HV_INITIAL_VP_CONTEXT; TLFS HvCallEnableVpVtl
 */
export const isLegalContext = (context: InitialContext, vtl: number, features: CpuFeatures): boolean => {
  const state = controlsOf(context);
  if (!isLegalControlState(state, features)) return false;
  if (vtl > 0 && (state.cr0 & Cr0Bit.pe) === 0n) return false;
  const { rflags } = context;
  if ((legalizeRflags(rflags) & ~RflagsBit.fixed) !== (rflags & ~RflagsBit.fixed)) return false;
  if (vtl > 0 && (rflags & RflagsBit.vm) !== 0n) return false;
  if (isFault(legalizePat(context.msrCrPat))) return false;
  const is64 = state.csL;
  const cs = toBlockAttributes(context.cs.attributes);
  if (is64 && (cs & DEFAULT_SIZE) !== 0) return false;
  if (segments.some((name) => (context[name].attributes & SEGMENT_HOLE) !== 0)) return false;
  const addresses = [...segments.map((name) => context[name].base), context.gdtr.base, context.idtr.base, ...(is64 ? [context.rip] : [])];
  if (!is64 && context.rip >> 32n !== 0n) return false;
  return addresses.every((address) => isCanonicalAddress(address, features.la57));
};

/** Puts a legal state into the block of a VTL. What the context does not name stays as it is. */
export const loadContext = (arena: Arena, { base }: PlaneContext, context: InitialContext): void => {
  const { cr0, cr3, cr4, efer } = controlsOf(context);
  const cells = { rip: context.rip, rsp: context.rsp, rflags: legalizeRflags(context.rflags), cr0, cr3, cr4, efer, pat: context.msrCrPat } as const;
  for (const [name, value] of Object.entries(cells)) writeRegister(arena, base, name as keyof typeof cells, value);
  for (const name of segments) loadSegment(arena, base, name, context[name]);
  loadTable(arena, base, 'gdtr', context.gdtr);
  loadTable(arena, base, 'idtr', context.idtr);
  writeRegister(arena, base, 'cpl', (cr0 & Cr0Bit.pe) === 0n ? 0n : BigInt((context.ss.attributes >>> DPL_SHIFT) & 3));
};
