import { HostError } from '@vmplanes/engine';
import { defaultApicConfig, type LocalApicConfig } from '../apic/index.ts';

/** How the x86 architecture of one machine is built. */
export interface X86Config {
  /** Name of a CPU model. */
  readonly cpuModel: string;
  /** APIC id by VP index; the index where none is given. APIC ids, VP indexes and processor numbers of a guest are three different things. */
  readonly apicIds: readonly number[];
  readonly apic: LocalApicConfig;
  /** What an access to an MSR that nobody knows does: #GP, or an exit to the VMM with the reason `unknown`. */
  readonly unknownMsr: 'fault' | 'exit';
  /** The same for known MSRs with an illegal value or access. */
  readonly invalidMsr: 'fault' | 'exit';
  readonly busLock: {
    /** Every bus lock exits to the VMM. */
    readonly exits: boolean;
    /** Most bus locks per second of virtual time and VP; 0 for no limit. */
    readonly perSecond: number;
  };
}

const defaults: X86Config = {
  cpuModel: 'base',
  apicIds: [],
  apic: defaultApicConfig,
  unknownMsr: 'fault',
  invalidMsr: 'fault',
  busLock: { exits: false, perSecond: 0 },
};

/** Fills in the defaults. @throws {HostError} BadConfig on ids that are not unique 32-bit numbers or a negative limit. */
export const completeX86Config = (given: Partial<X86Config>): X86Config => {
  const config = { ...defaults, ...given };
  const seen = new Set<number>();
  for (const id of config.apicIds) {
    if (!Number.isInteger(id) || id < 0 || id > 0xffff_fffe) throw new HostError('BadConfig', `APIC id ${id}: not in 0..0xfffffffe`);
    if (seen.has(id)) throw new HostError('BadConfig', `APIC id ${id} is given twice`);
    seen.add(id);
  }
  if (!(config.busLock.perSecond >= 0)) throw new HostError('BadConfig', `busLock.perSecond ${config.busLock.perSecond}: must not be negative`);
  return config;
};

/** VPs without an id of their own take their index: it must be free. @throws {HostError} BadConfig. */
export const checkApicIds = (ids: readonly number[], vps: number): void => {
  for (let vp = ids.length; vp < vps; vp++) if (ids.includes(vp)) throw new HostError('BadConfig', `APIC id ${vp} is given to VP ${ids.indexOf(vp)}, and VP ${vp} would take it as its own`);
};
