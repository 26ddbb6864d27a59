import { bytes, struct, u16, u32, u64 } from '@vmplanes/binary';
import { call, type SvsmCall } from '../call.ts';
import { SvsmProtocol } from '../protocols.ts';

const { Attestation } = SvsmProtocol;

const common = {
  reportGpa: [0x00, u64, 'page aligned'],
  reportSize: [0x08, u32],
  reserved0c: [0x0c, u32],
  nonceGpa: [0x10, u64, 'does not cross a page'],
  nonceSize: [0x18, u16, '64'],
  reserved1a: [0x1a, bytes(6)],
  manifestGpa: [0x20, u64, 'page aligned'],
  manifestSize: [0x28, u32],
  reserved2c: [0x2c, u32],
  certificateGpa: [0x30, u64, 'page aligned, when the size is not 0'],
  certificateSize: [0x38, u32, '0: none wanted'],
  reserved3c: [0x3c, u32],
} as const;

/** What SVSM_ATTEST_SERVICES works on. @spec SVSM 1.00, table 11 */
export const SvsmAttestServices = struct('SvsmAttestServices', 'SVSM 1.00, table 11', 0x40, common);
/** What SVSM_ATTEST_SINGLE_SERVICE works on. @spec SVSM 1.00, table 13 */
export const SvsmAttestSingleService = struct('SvsmAttestSingleService', 'SVSM 1.00, table 13', 0x58, {
  ...common,
  service: [0x40, bytes(16), 'GUID of the service'],
  manifestVersion: [0x50, u32, '0'],
  reserved54: [0x54, u32],
});

/** Bytes of the only nonce size. @spec SVSM 1.00, attestation protocol */
export const SVSM_NONCE_BYTES = 64;
/** Largest certificate buffer. @spec coconut-svsm kernel/src/protocols/attest.rs */
export const SVSM_CERTIFICATE_BYTES = 0x4000;

/** GUID of the services manifest. @spec SVSM 1.00, services manifest */
export const SVSM_SERVICES_MANIFEST = '63849ebb-3d92-4670-a1ff-58f9c94b87bb';
/** Services with a manifest. @spec SVSM 1.00, vTPM protocol; coconut-svsm Documentation/docs/protocols/uefivars.md */
export const SvsmService = { Vtpm: 'c476f1eb-0123-45a5-9641-b4e7dde5bfe3', UefiMm: 'a4453a59-9e1b-4787-a033-1986d6adbe55' } as const;

/** Head of the services manifest; entries, then data, follow. @spec SVSM 1.00, services manifest */
export const SvsmServicesManifest = struct('SvsmServicesManifest', 'SVSM 1.00, services manifest', 24, {
  guid: [0, bytes(16), 'SVSM_SERVICES_MANIFEST'],
  size: [16, u32, 'bytes of the whole manifest'],
  count: [20, u32, 'services'],
});
/** One entry of the services manifest. @spec SVSM 1.00, services manifest */
export const SvsmManifestEntry = struct('SvsmManifestEntry', 'SVSM 1.00, services manifest', 24, {
  guid: [0, bytes(16)],
  offset: [16, u32, 'from the start of the manifest'],
  size: [20, u32],
});

const results = ['UnsupportedProtocol', 'InvalidParameter', 'InvalidAddress', 'InvalidFormat', 'InvalidRequest'] as const;
const lengths = { rcx: 'bytes of the manifest', rdx: 'bytes of the certificates', r8: 'bytes of the report' } as const;

/** Calls of the attestation protocol. @spec SVSM 1.00, attestation protocol */
export const AttestationCall = {
  Services: call('SVSM_ATTEST_SERVICES', Attestation, { number: 0, spec: 'SVSM 1.00, SVSM_ATTEST_SERVICES', input: { rcx: 'GPA of the structure' }, output: lengths, structure: SvsmAttestServices, results }),
  SingleService: call('SVSM_ATTEST_SINGLE_SERVICE', Attestation, {
    number: 1, spec: 'SVSM 1.00, SVSM_ATTEST_SINGLE_SERVICE', input: { rcx: 'GPA of the structure' }, output: lengths, structure: SvsmAttestSingleService, results,
  }),
} as const satisfies Readonly<Record<string, SvsmCall>>;
