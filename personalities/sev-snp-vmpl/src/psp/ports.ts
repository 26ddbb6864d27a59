import type { ReportVersion } from '@vmplanes/abi-sev-snp';
import type { GuestContext } from './guest-context.ts';
import type { Platform } from './platform.ts';

/** Asks the CPU model for one CPUID function; `out` receives EAX, EBX, ECX, EDX. */
export type CpuidModel = (leaf: number, subleaf: number, out: Uint32Array) => void;

/** What the firmware says of its host. */
export interface FirmwareSettings {
  readonly reportVersion: ReportVersion;
  /** PlatformInfo, packed. */
  readonly platformInfo: bigint;
  /** Mitigations, in reports of version 5. */
  readonly mitVector: bigint;
  /** Policy of a guest that is started without a launch. */
  readonly policy: bigint;
  /** 32 bytes of the host in reports. */
  readonly hostData: Uint8Array;
}

/** What answering a request may look at. */
export interface FirmwareView {
  readonly platform: Platform;
  readonly guest: GuestContext;
  readonly settings: FirmwareSettings;
  readonly cpuid: CpuidModel;
}
