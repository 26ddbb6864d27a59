import { guidBytes, guidText, SVSM_SERVICES_MANIFEST, SvsmManifestEntry, SvsmService, SvsmServicesManifest } from '@vmplanes/abi-svsm';

/** A service with its manifest. */
export interface ServiceManifest {
  readonly guid: string;
  readonly data: Uint8Array;
}

/** The services manifest: a table of services, then their manifests. @spec SVSM 1.00, services manifest */
export function servicesManifest(services: readonly ServiceManifest[]): Uint8Array {
  const table = SvsmServicesManifest.size + services.length * SvsmManifestEntry.size;
  const bytes = new Uint8Array(services.reduce((sum, s) => sum + s.data.length, table));
  const view = new DataView(bytes.buffer);
  SvsmServicesManifest.write(view, 0, { guid: guidBytes(SVSM_SERVICES_MANIFEST), size: bytes.length, count: services.length });
  let at = table;
  services.forEach(({ guid, data }, i) => {
    SvsmManifestEntry.write(view, SvsmServicesManifest.size + i * SvsmManifestEntry.size, { guid: guidBytes(guid), offset: at, size: data.length });
    bytes.set(data, at);
    at += data.length;
  });
  return bytes;
}

/** The manifests of the services on offer. @param endorsementKey - TPMT_PUBLIC, empty without a TPM. */
export const services = (endorsementKey: Uint8Array): readonly ServiceManifest[] => (endorsementKey.length === 0 ? [] : [{ guid: SvsmService.Vtpm, data: endorsementKey }]);

/** The manifest of one service by the bytes of its GUID, or null. */
export const manifestOf = (list: readonly ServiceManifest[], guid: Uint8Array): Uint8Array | null => list.find((s) => s.guid === guidText(guid))?.data ?? null;
