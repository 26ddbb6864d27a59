import { ENCRYPTED_MEMORY_LEAF, PlatformInfo } from '@vmplanes/abi-sev-snp';
import { parseHexBytes } from '@vmplanes/binary';
import type { SnpContext } from '../ports.ts';
import { derive } from './key-derivation.ts';
import { PLATFORM_SEED_BYTES } from './platform.ts';
import type { CpuidModel } from './ports.ts';
import { SecurityProcessor } from './security-processor.ts';

/** What a machine without a seed is made from, such as one in a test: known to everybody. */
const KNOWN_SEED = derive(new Uint8Array(0), 'platform without a secret', PLATFORM_SEED_BYTES);
const HOST_DATA_BYTES = 32;

/** Family, model and stepping, combined. @spec SDM 2A, CPUID leaf 1, EAX */
const processorOf = (signature: number): { readonly family: number; readonly model: number; readonly stepping: number } => {
  const base = (signature >>> 8) & 0xf;
  return { family: base === 0xf ? base + ((signature >>> 20) & 0xff) : base, model: ((signature >>> 12) & 0xf0) | ((signature >>> 4) & 0xf), stepping: signature & 0xf };
};

/** CPUID as the first processor of the machine answers it. */
const cpuidOf = ({ machine, arch, chapters }: SnpContext): CpuidModel => (leaf, subleaf, out) => {
  arch.registers.executeCpuid(machine.vp(0).plane(0), leaf, subleaf, out);
  if (leaf !== ENCRYPTED_MEMORY_LEAF) return;
  const { eax, ebx, ecx, edx } = chapters.features.leaf;
  out.set([eax, ebx, ecx, edx]);
};

/** The security processor of a machine, from its options and CPU model. */
export const makeSecurityProcessor = (snp: SnpContext): SecurityProcessor => {
  const { platformSeed, signing, tcb, reportVersion, policy, hostData } = snp.options;
  const seed = platformSeed === '' ? KNOWN_SEED : parseHexBytes(platformSeed);
  const settings = { reportVersion, platformInfo: PlatformInfo.pack({ smtEnabled: true }), mitVector: 0n, policy: BigInt(policy), hostData: hostData === '' ? new Uint8Array(HOST_DATA_BYTES) : parseHexBytes(hostData) };
  // The chapters are there when a guest first asks.
  return new SecurityProcessor({ seed, signing, tcb, ...processorOf(snp.arch.registers.features.signature) }, settings, (leaf, subleaf, out) => cpuidOf(snp)(leaf, subleaf, out));
};
