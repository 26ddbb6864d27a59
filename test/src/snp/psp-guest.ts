import { AttestationReport, FirmwareStatus } from '@vmplanes/abi-sev-snp';
import { GuestState, type PlatformConfig, SecurityProcessor, type FirmwareSettings, type CpuidModel } from '@vmplanes/personality-sev-snp-vmpl';
import { createCipheriv, createDecipheriv, createHash } from 'node:crypto';

/** A platform seed for tests: any 48 bytes. */
export const SEED = new Uint8Array(createHash('sha384').update('platform of the tests').digest());

export const PLATFORM: PlatformConfig = { seed: SEED, signing: 'vcek', tcb: { fmc: 0, bootLoader: 3, tee: 1, snp: 8, microcode: 115 }, family: 0x19, model: 0x11, stepping: 1 };
export const SETTINGS: FirmwareSettings = { reportVersion: 3, platformInfo: 1n, mitVector: 0n, policy: 0x30000n, hostData: new Uint8Array(32) };

/** A CPU model of three leaves: features 0x00ff in every register, two leaves. */
export const CPUID: CpuidModel = (leaf, _subleaf, out) => {
  out.fill(0xff);
  if (leaf === 0 || leaf === 0x8000_0000) out[0] = leaf + 2;
  if (leaf === 1) out[0] = 0x00a1_0f11;
};

/** A security processor with a guest that runs. */
export function runningProcessor(platform: Partial<PlatformConfig> = {}, settings: Partial<FirmwareSettings> = {}): SecurityProcessor {
  const psp = new SecurityProcessor({ ...PLATFORM, ...platform }, { ...SETTINGS, ...settings }, CPUID);
  psp.guest.state = GuestState.Running;
  psp.guest.policy = 0x30000n;
  psp.guest.digest = new Uint8Array(createHash('sha384').update('launch of the tests').digest());
  return psp;
}

/** One message as the guest side writes it; numbers are those of the specification's table. */
export interface Message {
  readonly type: number;
  readonly version: number;
  readonly vmpck: number;
  readonly sequence: bigint;
  readonly payload: Uint8Array;
}

const ivOf = (sequence: bigint): Buffer => {
  const iv = Buffer.alloc(12);
  iv.writeBigUInt64LE(sequence, 0);
  return iv;
};

/** Encrypts a message page as a guest does, written from the tables and not with the code under test. @param damage - changes the page before it is authenticated. */
export function seal(key: Uint8Array, { type, version, vmpck, sequence, payload }: Message, damage: (page: Buffer) => void = () => undefined): Uint8Array {
  const page = Buffer.alloc(4096);
  page.writeBigUInt64LE(sequence, 0x20);
  page[0x30] = 1;
  page[0x31] = 1;
  page.writeUInt16LE(0x60, 0x32);
  page[0x34] = type;
  page[0x35] = version;
  page.writeUInt16LE(payload.length, 0x36);
  page[0x3c] = vmpck;
  damage(page);
  const cipher = createCipheriv('aes-256-gcm', key, ivOf(sequence));
  cipher.setAAD(page.subarray(0x30, 0x60));
  cipher.update(payload).copy(page, 0x60);
  cipher.final();
  cipher.getAuthTag().copy(page, 0);
  return new Uint8Array(page);
}

/** Decrypts a response as a guest does. @throws when it is not authentic. */
export function unseal(key: Uint8Array, page: Uint8Array): Message {
  const p = Buffer.from(page);
  const sequence = p.readBigUInt64LE(0x20);
  const decipher = createDecipheriv('aes-256-gcm', key, ivOf(sequence));
  decipher.setAAD(p.subarray(0x30, 0x60));
  decipher.setAuthTag(p.subarray(0, 16));
  const payload = decipher.update(p.subarray(0x60, 0x60 + p.readUInt16LE(0x36)));
  decipher.final();
  return { type: p[0x34]!, version: p[0x35]!, vmpck: p[0x3c]!, sequence, payload: new Uint8Array(payload) };
}

/** The guest's end: counts as Linux does, by two. */
export class PspGuest {
  readonly sequences = [1n, 1n, 1n, 1n];

  constructor(readonly psp: SecurityProcessor) {}

  /** Sends a request. @returns the status of the command, and the response when there is one. */
  send(type: number, payload: Uint8Array, { vmpck = 0, version = 1, key = this.psp.keys[vmpck]! }: { vmpck?: number; version?: number; key?: Uint8Array } = {}): { readonly error: number; readonly response: Message | null } {
    const page = new Uint8Array(4096).fill(0xa5);
    const error = this.psp.message(seal(key, { type, version, vmpck, sequence: this.sequences[vmpck]!, payload }), page);
    if (error !== FirmwareStatus.Success) return { error, response: null };
    this.sequences[vmpck] = this.sequences[vmpck]! + 2n;
    return { error, response: unseal(key, page) };
  }

  /** Asks for a report. @returns the status in the response and the report. */
  report({ data = new Uint8Array(64), vmpl = 0, flags = 0, vmpck = 0, reserved = 0 }: { data?: Uint8Array; vmpl?: number; flags?: number; vmpck?: number; reserved?: number } = {}): { readonly status: number; readonly size: number; readonly report: Uint8Array } {
    const payload = Buffer.alloc(96);
    payload.set(data, 0);
    payload.writeUInt32LE(vmpl, 64);
    payload.writeUInt32LE(flags, 68);
    payload[95] = reserved;
    const { response } = this.send(5, payload, { vmpck });
    const out = Buffer.from(response!.payload);
    return { status: out.readUInt32LE(0), size: out.readUInt32LE(4), report: new Uint8Array(out.subarray(32)) };
  }
}

/** A report with names. */
export const readReport = (report: Uint8Array): ReturnType<typeof AttestationReport.read> => AttestationReport.read(new DataView(report.buffer, report.byteOffset), 0);
