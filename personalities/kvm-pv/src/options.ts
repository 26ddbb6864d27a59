import { HostError, type PlainRecord } from '@vmplanes/engine';

/** Options of this personality, after the check against {@link optionsSchema}. */
export interface KvmPvOptions {
  /** First of its CPUID leaves; another one where a second interface has the first place. */
  readonly leafBase: number;
  /** Wall-clock time at machine time zero, seconds since 1970. */
  readonly bootSeconds: number;
}

/** JSON Schema of the options. */
export const optionsSchema: PlainRecord = {
  type: 'object',
  properties: {
    leafBase: { type: 'integer', minimum: 0x4000_0000, maximum: 0x4000_ff00, multipleOf: 0x100, default: 0x4000_0000, description: 'First CPUID leaf; another one where a second interface has the first place.' },
    bootSeconds: { type: 'integer', minimum: 0, maximum: 0xffff_ffff, default: 1_735_689_600, description: 'Wall-clock time at machine time zero, seconds since 1970.' },
  },
  additionalProperties: false,
};

/** @throws {HostError} BadConfig when a caller skipped the check. */
export const optionsOf = (given: PlainRecord): KvmPvOptions => {
  const { leafBase, bootSeconds } = given;
  if (typeof leafBase !== 'number' || typeof bootSeconds !== 'number') throw new HostError('BadConfig', 'kvm-pv: options are not complete');
  return { leafBase, bootSeconds };
};
