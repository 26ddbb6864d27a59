import { ApCreationRequest, buildVmsa, Ghcb, type GhcbField, ghcbValidBit, linuxApVmsa, SecretsPage } from '@vmplanes/abi-sev-snp';
import { callRax, type SvsmCall, SvsmCallingArea } from '@vmplanes/abi-svsm';
import type { RegisterName, Step, StepResult } from '@vmplanes/x86';

// What code of an SNP guest does below an SVSM, as scripts: private memory, the MSR protocol, the GHCB page, calls of the SVSM.

export type Code<T = void> = Generator<Step, T, StepResult>;

/** Bit of an address that means the private side. */
export const C_BIT = 2 ** 51;
const GHCB_MSR = 0xc001_0130;
const PAGE = 4096;

export const hexOf = (bytes: Uint8Array): string => Array.from(bytes, (b) => b.toString(16).padStart(2, '0')).join('');
const le64 = (value: bigint | number): string => {
  const bytes = new Uint8Array(8);
  new DataView(bytes.buffer).setBigUint64(0, BigInt(value), true);
  return hexOf(bytes);
};

/** What a call of the SVSM gave. */
export interface SvsmAnswer {
  readonly result: number;
  readonly rcx: bigint;
  readonly rdx: bigint;
  readonly r8: bigint;
  /** The request byte as the guest takes it back: 0 when the call was served. */
  readonly pending: number;
}

/** Fields of a request in a GHCB page. */
export type GhcbRequest = Partial<Readonly<Record<GhcbField, bigint | number>>>;

/** A processor of the guest: its calling area, and its GHCB once it has one. */
export class GuestCode {
  ghcb = -1;
  constructor(public area: number) {}

  // -- memory, private unless it says shared ---------------------------------------------------------------------------
  *read(gpa: number, size: 1 | 2 | 4 | 8 = 8): Code<bigint> {
    const { rax } = yield { op: 'read', gpa: gpa + C_BIT, size };
    return size === 8 ? rax : rax & ((1n << BigInt(size * 8)) - 1n);
  }
  *write(gpa: number, value: bigint | number, size: 1 | 2 | 4 | 8 = 8): Code {
    yield { op: 'write', gpa: gpa + C_BIT, value, size };
  }
  *fill(gpa: number, bytes: Uint8Array | string): Code {
    yield { op: 'fill', gpa: gpa + C_BIT, bytes: typeof bytes === 'string' ? bytes : hexOf(bytes) };
  }
  *words(gpa: number, ...values: readonly (bigint | number)[]): Code {
    yield* this.fill(gpa, values.map(le64).join(''));
  }

  // -- MSR protocol ----------------------------------------------------------------------------------------------------
  /** A request through the GHCB MSR. @returns the response. */
  *msr(value: bigint | number): Code<bigint> {
    yield { op: 'wrmsr', index: GHCB_MSR, value };
    yield { op: 'call', via: 'vmgexit' };
    return (yield { op: 'rdmsr', index: GHCB_MSR }).edxEax;
  }
  /** Page state change of one page. @spec GHCB 2.3.1, MSR protocol 0x014 */
  *pageState(gpa: number, isPrivate: boolean): Code<bigint> {
    return yield* this.msr(BigInt(gpa) | ((isPrivate ? 1n : 2n) << 52n) | 0x014n);
  }

  // -- GHCB page ---------------------------------------------------------------------------------------------------------
  /** Makes a page shared and registers it. */
  *openGhcb(gpa: number): Code {
    yield* this.pvalidate([[gpa, { validate: false }]]);
    yield* this.pageState(gpa, false);
    yield* this.msr(BigInt(gpa) | 0x012n);
    this.ghcb = gpa;
  }
  /** A request through the page. @returns SW_EXITINFO1 and 2. */
  *exit(request: GhcbRequest): Code<readonly [bigint, bigint]> {
    const { ghcb } = this;
    const page = new Uint8Array(PAGE);
    const view = new DataView(page.buffer);
    for (const [name, value] of Object.entries(request) as [GhcbField, bigint | number][]) {
      view.setBigUint64(Ghcb.at[name], BigInt(value), true);
      page[Ghcb.at.validBitmap + (ghcbValidBit[name] >>> 3)]! |= 1 << (ghcbValidBit[name] & 7);
    }
    view.setUint16(Ghcb.at.protocolVersion, 2, true);
    for (const [from, to] of [[Ghcb.at.rax, Ghcb.at.rax + 8], [Ghcb.at.rcx, Ghcb.at.validBitmap + 16], [Ghcb.at.protocolVersion, PAGE]] as const) yield { op: 'fill', gpa: ghcb + from, bytes: hexOf(page.subarray(from, to)) };
    yield { op: 'wrmsr', index: GHCB_MSR, value: ghcb };
    yield { op: 'call', via: 'vmgexit' };
    const info1 = (yield { op: 'read', gpa: ghcb + Ghcb.at.swExitInfo1, size: 8 }).rax;
    return [info1, (yield { op: 'read', gpa: ghcb + Ghcb.at.swExitInfo2, size: 8 }).rax];
  }
  /** AP creation. @spec GHCB 4.1.9 */
  *createAp(apicId: number, vmpl: number, vmsa: number, request: number = ApCreationRequest.Create, features = 1): Code<readonly [bigint, bigint]> {
    return yield* this.exit({ rax: features, swExitCode: 0x8000_0013, swExitInfo1: (BigInt(apicId) << 32n) | BigInt((vmpl << 16) | request), swExitInfo2: vmsa });
  }

  // -- SVSM ------------------------------------------------------------------------------------------------------------
  /** A call, by the page form where there is a GHCB. @spec SVSM 1.00, calling convention */
  *svsm(call: SvsmCall | bigint, registers: Partial<Readonly<Record<'rcx' | 'rdx' | 'r8', bigint | number>>> = {}, form: 'msr' | 'page' = this.ghcb >= 0 ? 'page' : 'msr'): Code<SvsmAnswer> {
    const { area } = this;
    const rax = typeof call === 'bigint' ? call : callRax(call);
    const regs: Partial<Record<RegisterName, bigint | number>> = { rax, rcx: registers.rcx ?? 0, rdx: registers.rdx ?? 0, r8: registers.r8 ?? 0 };
    const saved = form === 'msr' ? (yield { op: 'rdmsr', index: GHCB_MSR }).edxEax : 0n;
    yield* this.write(area + SvsmCallingArea.at.callPending, 1, 1);
    let out: StepResult;
    if (form === 'msr') {
      yield { op: 'wrmsr', index: GHCB_MSR, value: 0x16 };
      out = yield { op: 'call', via: 'vmgexit', regs };
      yield { op: 'rdmsr', index: GHCB_MSR };
      yield { op: 'wrmsr', index: GHCB_MSR, value: saved };
    } else {
      yield* this.#runVmplPage();
      yield { op: 'wrmsr', index: GHCB_MSR, value: this.ghcb };
      out = yield { op: 'call', via: 'vmgexit', regs };
      yield { op: 'read', gpa: this.ghcb + Ghcb.at.swExitInfo1, size: 8 };
    }
    const pending = Number(yield* this.read(area, 1));
    return { result: Number(out.rax), rcx: out.rcx, rdx: out.rdx, r8: out.r8, pending };
  }
  *#runVmplPage(): Code {
    const { ghcb } = this;
    const bitmap = new Uint8Array(16);
    for (const name of ['swExitCode', 'swExitInfo1', 'swExitInfo2'] as const) bitmap[ghcbValidBit[name] >>> 3]! |= 1 << (ghcbValidBit[name] & 7);
    yield { op: 'fill', gpa: ghcb + Ghcb.at.swExitCode, bytes: le64(0x8000_0018n) + le64(0) + le64(0) };
    yield { op: 'fill', gpa: ghcb + Ghcb.at.validBitmap, bytes: hexOf(bitmap) };
    yield { op: 'fill', gpa: ghcb + Ghcb.at.protocolVersion, bytes: '0200' };
    yield { op: 'fill', gpa: ghcb + Ghcb.at.ghcbUsage, bytes: '00000000' };
  }
  /** PVALIDATE of a list, in the buffer of the calling area. */
  *pvalidate(pages: readonly (readonly [gpa: number, how?: { readonly validate?: boolean; readonly large?: boolean; readonly ignore?: boolean }])[]): Code<SvsmAnswer> {
    const list = this.area + SvsmCallingArea.at.buffer;
    yield* this.words(list, pages.length, ...pages.map(([gpa, { validate = true, large = false, ignore = false } = {}]) => BigInt(gpa) | (validate ? 4n : 0n) | (large ? 1n : 0n) | (ignore ? 8n : 0n)));
    return yield* this.svsm(1n, { rcx: list });
  }
  /** Fills a page with the VMSA of a processor at a VMPL of the guest. */
  *fillVmsa(gpa: number, vmpl: number, start: number, features = 1n): Code {
    yield* this.fill(gpa, buildVmsa(linuxApVmsa({ vmpl, sevFeatures: features, start, mce: false })));
  }
}

/** Discovery: the fields of the secrets page that say that there is an SVSM. @spec SVSM 1.00, section 4 */
export function* discover(code: GuestCode, secrets: number): Code<{ readonly base: bigint; readonly size: bigint; readonly area: bigint; readonly version: bigint; readonly vmpl: bigint }> {
  return {
    base: yield* code.read(secrets + SecretsPage.at.svsmBase),
    size: yield* code.read(secrets + SecretsPage.at.svsmSize),
    area: yield* code.read(secrets + SecretsPage.at.svsmCaa),
    version: yield* code.read(secrets + SecretsPage.at.svsmMaxVersion, 4),
    vmpl: yield* code.read(secrets + SecretsPage.at.svsmGuestVmpl, 1),
  };
}
