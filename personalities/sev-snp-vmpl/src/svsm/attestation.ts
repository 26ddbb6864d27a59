import { SVSM_CERTIFICATE_BYTES, SVSM_NONCE_BYTES, SvsmAttestServices, SvsmAttestSingleService, SvsmResult } from '@vmplanes/abi-svsm';
import { type Answer, PAGE_SIZE, type PlainRecord } from '@vmplanes/engine';
import { createHash } from 'node:crypto';
import { createdKey, createEndorsementKey, flushObject, responseCode, startUp, TPM_RC_INITIALIZE } from './endorsement-key.ts';
import type { SvsmFrame } from './frame.ts';
import { GuestPages } from './guest-pages.ts';
import type { SvsmHandler } from './handler.ts';
import { manifestOf, services, servicesManifest } from './manifests.ts';
import type { SvsmProvider } from './provider.ts';
import { requestReport } from './psp-channel.ts';
import { askTpm, tpmResponse } from './vtpm.ts';

const { Success, UnsupportedProtocol, InvalidAddress, InvalidParameter } = SvsmResult;
const REPORT_BYTES = 0x4a0;

/** A buffer of the guest. */
interface Region {
  readonly gpa: bigint;
  readonly size: number;
}

/** Alignment, then overflow. @returns a result code. */
const judge = ({ gpa, size }: Region): number => {
  if ((gpa & 0xfffn) !== 0n) return InvalidParameter;
  return gpa + BigInt(size) >= 1n << 64n ? InvalidAddress : Success;
};
/** A list of certificates that begins with 24 zero bytes is empty. @spec GHCB 4.1.6 */
const isEmptyTable = (table: Uint8Array): boolean => table.subarray(0, 24).every((b) => b === 0);

const noReserved = (bytes: Uint8Array, holes: readonly (readonly [from: number, to: number])[]): boolean => holes.every(([from, to]) => bytes.subarray(from, to).every((b) => b === 0));
const HOLES = [[0x0c, 0x10], [0x1a, 0x20], [0x2c, 0x30], [0x3c, 0x40]] as const;

/**
 * Both calls of the protocol: the report of the security processor over SHA-512 of nonce and manifest, with manifest and certificates. The structure is copied
 * once. @spec SVSM 1.00, attestation protocol; coconut-svsm kernel/src/protocols/attest.rs
 */
const attest = (p: SvsmProvider, call: SvsmFrame, isSingle: boolean): number | Answer => {
  const pending = endorsementKey(p, call);
  if (pending !== null) return pending;
  const layout = isSingle ? SvsmAttestSingleService : SvsmAttestServices;
  const { buffer } = call;
  if (!p.pages.fetch(buffer, GuestPages.address(call.rcx), layout.size)) return InvalidParameter;
  const op = SvsmAttestServices.read(buffer.view, 0);
  const single = isSingle ? SvsmAttestSingleService.read(buffer.view, 0) : null;
  const holes = isSingle ? [...HOLES, [0x54, 0x58] as const] : HOLES;
  if (!noReserved(buffer.bytes, holes) || (single?.manifestVersion ?? 0) !== 0) return InvalidParameter;
  const list = services(p.attestation.endorsementKey);
  const manifest = single === null ? servicesManifest(list) : manifestOf(list, single.service);
  if (manifest === null) return UnsupportedProtocol;

  const report: Region = { gpa: op.reportGpa, size: op.reportSize };
  const output: Region = { gpa: op.manifestGpa, size: op.manifestSize };
  const certificates: Region = { gpa: op.certificateGpa, size: op.certificateSize };
  if (op.nonceSize !== SVSM_NONCE_BYTES) return InvalidParameter;
  const nonceAt = GuestPages.address(op.nonceGpa);
  if ((nonceAt % PAGE_SIZE) + SVSM_NONCE_BYTES > PAGE_SIZE || !p.pages.fetch(buffer, nonceAt, SVSM_NONCE_BYTES)) return InvalidParameter;
  const reportData = createHash('sha512').update(buffer.bytes.subarray(0, SVSM_NONCE_BYTES)).update(manifest).digest();

  const asksFirst = p.deviates('attestationOrder');
  const regions = (): number => judgeAll(output, report, certificates);
  if (!asksFirst) {
    const wrong = regions();
    if (wrong !== Success) return wrong;
  }
  const table = p.snp.chapters.requests.certificates;
  const wants = certificates.size > 0;
  const length = !wants || isEmptyTable(table) ? 0 : asksFirst ? SVSM_CERTIFICATE_BYTES : table.length;
  const lengths = (): void => {
    call.rcx = BigInt(manifest.length);
    call.rdx = BigInt(length);
    call.r8 = BigInt(REPORT_BYTES);
  };
  const fits = manifest.length <= output.size && REPORT_BYTES <= report.size && length <= certificates.size;
  if (!asksFirst && !fits) {
    lengths();
    return InvalidParameter;
  }
  // The internal buffer holds four pages: a host with more says how many it needs.
  if (wants && table.length > SVSM_CERTIFICATE_BYTES) {
    call.rcx = BigInt(manifest.length);
    call.rdx = BigInt(Math.ceil(table.length / PAGE_SIZE) * PAGE_SIZE);
    return InvalidParameter;
  }
  const got = requestReport(p.snp.chapters.requests, p.attestation.psp, reportData);
  if (typeof got === 'number') return got;
  if (asksFirst) {
    const wrong = regions();
    if (wrong !== Success) return wrong;
  }
  lengths();
  if (!fits) return InvalidParameter;
  const copies: readonly (readonly [Region, Uint8Array])[] = [
    [report, got],
    [output, manifest],
    [certificates, table.subarray(0, length)],
  ];
  // In this order; what was copied before a failure stays.
  for (const [{ gpa }, bytes] of copies) if (bytes.length > 0 && !p.pages.store(GuestPages.address(gpa), bytes)) return InvalidAddress;
  return Success;
};

const judgeAll = (manifest: Region, report: Region, certificates: Region): number => {
  for (const region of [manifest, report]) {
    const wrong = judge(region);
    if (wrong !== Success) return wrong;
  }
  if (certificates.size === 0) return Success;
  const wrong = judge(certificates);
  if (wrong !== Success) return wrong;
  return certificates.size > SVSM_CERTIFICATE_BYTES ? InvalidParameter : Success;
};

/** SVSM_ATTEST_SERVICES: all services. */
export const attestServices: SvsmHandler = (p, call) => attest(p, call, false);
/** SVSM_ATTEST_SINGLE_SERVICE: one service by its GUID. */
export const attestSingleService: SvsmHandler = (p, call) => attest(p, call, true);

// -- the public part of the endorsement key: the vTPM's manifest, asked of the TPM once ------------------------------------

/** Begins to ask for the key where it is needed and not known. @returns null when it is known, or there is no TPM. */
const endorsementKey = (p: SvsmProvider, call: SvsmFrame): number | Answer | null =>
  !p.snp.options.vtpm || p.attestation.isKeyKnown ? null : askTpm(p, call, createEndorsementKey(), { next: 'key', step: 'create', isStarted: false });

/** The TPM answered: a TPM that was not started is, then the key is made, kept, and its object dropped; the call begins anew. */
export const keyResponse = (p: SvsmProvider, call: SvsmFrame, data: PlainRecord, reply: PlainRecord): number | Answer => {
  const response = tpmResponse(reply) ?? new Uint8Array(0);
  const { attestation } = p;
  if (data['step'] === 'start') return askTpm(p, call, createEndorsementKey(), { next: 'key', step: 'create', isStarted: true });
  if (data['step'] === 'create') {
    if (responseCode(response) === TPM_RC_INITIALIZE && data['isStarted'] === false) return askTpm(p, call, startUp(), { next: 'key', step: 'start' });
    const key = createdKey(response);
    attestation.isKeyKnown = true;
    attestation.endorsementKey = key?.publicArea ?? new Uint8Array(0);
    if (key !== null) return askTpm(p, call, flushObject(key.handle), { next: 'key', step: 'flush' });
  }
  return p.again(call);
};
