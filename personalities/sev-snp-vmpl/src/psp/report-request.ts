import { ALGO_ECDSA_P384_SHA384, AttestationReport, FirmwareStatus, KeyInfo, KeySelect, REPORT_SIGNED_BYTES, ReportRequest, ReportRequestFlags, ReportResponse, SigningKey } from '@vmplanes/abi-sev-snp';
import { signStructure } from './ecdsa.ts';
import { isVmplAllowed, LAST_KEY_SELECT, selectKey } from './key-select.ts';
import { type EndorsementKey, FIRMWARE } from './platform.ts';
import type { FirmwareView } from './ports.ts';

const NO_AGENT = new Uint8Array(32).fill(0xff);
const SIGNATURE = AttestationReport.at.signature;

/** What a caller may ask of a report. */
export interface ReportArguments {
  /** 64 bytes. */
  readonly reportData: Uint8Array;
  readonly vmpl: number;
  /** KeySelect. */
  readonly keySelect: number;
}

const response = (status: FirmwareStatus, report: Uint8Array | null): Uint8Array => {
  const out = new Uint8Array(ReportResponse.size);
  ReportResponse.write(new DataView(out.buffer), 0, { status, size: report?.length ?? 0, report: report ?? new Uint8Array(AttestationReport.size) });
  return out;
};

const isNamed = (select: number): boolean => select !== KeySelect.VlekElseVcek;

/** Answers MSG_REPORT_REQ. @spec SNP ABI, MSG_REPORT_REQ */
export function report(firmware: FirmwareView, payload: Uint8Array, vmpck: number): Uint8Array {
  const { reportData, vmpl, flags, reserved48 } = ReportRequest.read(new DataView(payload.buffer, payload.byteOffset), 0);
  const { keySelect } = ReportRequestFlags.unpack(flags);
  const hasReserved = (flags & ReportRequestFlags.reservedMask) !== 0 || keySelect > LAST_KEY_SELECT || reserved48.some((b) => b !== 0);
  if (hasReserved || !isVmplAllowed(vmpl, vmpck)) return response(FirmwareStatus.InvalidParam, null);
  const made = makeReport(firmware, { reportData, vmpl, keySelect });
  return made === null ? response(FirmwareStatus.InvalidKey, null) : response(FirmwareStatus.Success, made);
}

/** A report, signed; null when the key that is asked for is not there. */
export function makeReport(firmware: FirmwareView, given: ReportArguments): Uint8Array | null {
  const key = selectKey(firmware, given.keySelect);
  // A platform that has no key at all says so in the report; one that lacks the key that was named refuses.
  if (key === null && (isNamed(given.keySelect) || firmware.platform.config.signing !== 'none')) return null;
  const out = new Uint8Array(AttestationReport.size);
  writeBody(new DataView(out.buffer), firmware, given, key);
  if (key !== null) out.set(signStructure(out.subarray(0, REPORT_SIGNED_BYTES), key.key), SIGNATURE);
  return out;
}

function writeBody(view: DataView, { platform, guest, settings }: FirmwareView, { reportData, vmpl }: ReportArguments, key: EndorsementKey | null): void {
  const { reportVersion, platformInfo, mitVector } = settings;
  const { family, model, stepping } = platform.config;
  const { tcb } = platform;
  const isSince = (version: number): boolean => reportVersion >= version;
  AttestationReport.write(view, 0, {
    version: reportVersion,
    guestSvn: guest.guestSvn,
    policy: guest.policy,
    familyId: guest.familyId,
    imageId: guest.imageId,
    vmpl,
    signatureAlgo: ALGO_ECDSA_P384_SHA384,
    currentTcb: tcb,
    platformInfo,
    keyInfo: KeyInfo.pack({ authorKeyEn: guest.hasAuthorKey, signingKey: key?.signingKey ?? SigningKey.None }),
    reportData,
    measurement: guest.digest,
    hostData: guest.hostData,
    idKeyDigest: guest.idKeyDigest,
    authorKeyDigest: guest.authorKeyDigest,
    reportId: guest.reportId,
    reportIdMa: NO_AGENT,
    reportedTcb: tcb,
    cpuidFamily: isSince(3) ? family : 0,
    cpuidModel: isSince(3) ? model : 0,
    cpuidStepping: isSince(3) ? stepping : 0,
    chipId: platform.chipId,
    committedTcb: tcb,
    currentBuild: FIRMWARE.build,
    currentMinor: FIRMWARE.minor,
    currentMajor: FIRMWARE.major,
    committedBuild: FIRMWARE.build,
    committedMinor: FIRMWARE.minor,
    committedMajor: FIRMWARE.major,
    launchTcb: tcb,
    launchMitVector: isSince(5) ? mitVector : 0n,
    currentMitVector: isSince(5) ? mitVector : 0n,
    signature: { r: new Uint8Array(72), s: new Uint8Array(72) },
  });
}
