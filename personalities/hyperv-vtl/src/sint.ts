import { HV_SYNIC_FIRST_VALID_VECTOR, HvSynicSint } from '@vmplanes/abi-hyperv';

// How a synthetic interrupt source behaves by its register. Bits that mean nothing here are kept for the guest.
// @spec TLFS Inter-Partition Communication, SINTx registers

const { vector, masked, autoEoi, polling } = HvSynicSint.mask;

/** Vector that the source raises. */
export const sintVector = (sint: bigint): number => Number(sint & vector);
/** A source that is not masked needs a legal vector, else the write is #GP. */
export const isLegalSint = (sint: bigint): boolean => (sint & masked) !== 0n || sintVector(sint) >= HV_SYNIC_FIRST_VALID_VECTOR;
/** A masked source takes neither messages nor flags. @spec openvmm vm/hv1/hv1_emulator/src/synic.rs; TLFS HvCallSignalEvent, Return Values */
export const receives = (sint: bigint): boolean => (sint & masked) === 0n;
/** A polled source takes messages and flags without an interrupt. */
export const raisesInterrupt = (sint: bigint): boolean => (sint & (masked | polling)) === 0n;
/** Interrupts of the source end when they are taken. */
export const usesAutoEoi = (sint: bigint): boolean => (sint & (masked | autoEoi)) === autoEoi;
