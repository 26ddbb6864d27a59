import { struct, u32, uuid } from '@vmplanes/binary';

/** Certificates by what they are for. @spec GHCB 4.1.8, SNP extended guest request; SNP ABI, certificate chain */
export const CertificateGuid = {
  Vcek: '63da758d-e664-4564-adc5-f4b93be8accd',
  Vlek: 'a8074bc2-a25a-483e-aae6-39c045a0b8a1',
  Ask: '4ab7b379-bbac-4fe4-a02f-05aef327c782',
  Ark: 'c0b406a4-a803-4952-9743-3fb6014cd0ae',
  Crl: '92f81bc3-5811-4d3d-97ff-d19f88dc67ea',
} as const;
export type CertificateGuid = (typeof CertificateGuid)[keyof typeof CertificateGuid];

/** One row of the table in front of the certificates; a row of zeroes ends it. @spec GHCB 4.1.8 */
export const CertificateTableEntry = struct('CertificateTableEntry', 'GHCB 4.1.8, SNP extended guest request', 24, {
  guid: [0x00, uuid, 'in the byte order of its text'],
  offset: [0x10, u32, 'bytes from the start of the table'],
  length: [0x14, u32, 'bytes'],
});

/** Bytes of the table in front of so many certificates. */
const tableBytes = (count: number): number => (count + 1) * CertificateTableEntry.size;

/** A table with its certificates behind it, in their order. @param certificates - each in DER. */
export function encodeCertificateTable(certificates: readonly (readonly [guid: CertificateGuid, der: Uint8Array])[]): Uint8Array {
  const out = new Uint8Array(certificates.reduce((size, [, der]) => size + der.length, tableBytes(certificates.length)));
  const view = new DataView(out.buffer);
  let offset = tableBytes(certificates.length);
  certificates.forEach(([id, der], i) => {
    CertificateTableEntry.write(view, i * CertificateTableEntry.size, { guid: id, offset, length: der.length });
    out.set(der, offset);
    offset += der.length;
  });
  return out;
}
