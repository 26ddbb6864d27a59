/** Bits of CR0. @spec SDM 3A §2.5; APM2 §3.1.1 */
export const Cr0Bit = {
  pe: 1n << 0n, mp: 1n << 1n, em: 1n << 2n, ts: 1n << 3n, et: 1n << 4n, ne: 1n << 5n, wp: 1n << 16n, am: 1n << 18n, nw: 1n << 29n, cd: 1n << 30n, pg: 1n << 31n,
} as const;

/** Bits of CR4. @spec SDM 3A §2.5; APM2 §3.1.3 */
export const Cr4Bit = {
  vme: 1n << 0n, pvi: 1n << 1n, tsd: 1n << 2n, de: 1n << 3n, pse: 1n << 4n, pae: 1n << 5n, mce: 1n << 6n, pge: 1n << 7n, pce: 1n << 8n, osfxsr: 1n << 9n,
  osxmmexcpt: 1n << 10n, umip: 1n << 11n, la57: 1n << 12n, vmxe: 1n << 13n, fsgsbase: 1n << 16n, pcide: 1n << 17n, osxsave: 1n << 18n, smep: 1n << 20n, smap: 1n << 21n,
  pke: 1n << 22n, cet: 1n << 23n, pks: 1n << 24n,
} as const;

/** Bits of EFER. @spec SDM 3A §2.2.1; APM2 §3.1.7 */
export const EferBit = { sce: 1n << 0n, lme: 1n << 8n, lma: 1n << 10n, nxe: 1n << 11n, svme: 1n << 12n, ffxsr: 1n << 14n, aibrse: 1n << 21n } as const;

/** Bits of RFLAGS. @spec SDM 1 §3.4.3 */
export const RflagsBit = {
  cf: 1n << 0n, fixed: 1n << 1n, pf: 1n << 2n, af: 1n << 4n, zf: 1n << 6n, sf: 1n << 7n, tf: 1n << 8n, if: 1n << 9n, df: 1n << 10n, of: 1n << 11n, iopl: 3n << 12n,
  nt: 1n << 14n, rf: 1n << 16n, vm: 1n << 17n, ac: 1n << 18n, vif: 1n << 19n, vip: 1n << 20n, id: 1n << 21n,
} as const;
