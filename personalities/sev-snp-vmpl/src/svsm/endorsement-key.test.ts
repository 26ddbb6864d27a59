import { describe, expect, it } from 'vitest';
import { createdKey, createEndorsementKey, flushObject, responseCode, startUp, TPM_RC_INITIALIZE } from './endorsement-key.ts';
import { manifestOf, services, servicesManifest } from './manifests.ts';
import { SvsmService, guidBytes, SVSM_SERVICES_MANIFEST } from '@vmplanes/abi-svsm';

const hex = (bytes: Uint8Array): string => Buffer.from(bytes).toString('hex');

describe('commands to the TPM', () => {
  it('TPM2_Startup(CLEAR) and TPM2_FlushContext (TPM 2.0 Library part 3)', () => {
    expect(hex(startUp())).toBe('80010000000c000001440000');
    expect(hex(flushObject(0x8123_4567))).toBe('80010000000e0000016581234567');
    expect(TPM_RC_INITIALIZE).toBe(0x100);
  });
  it('TPM2_CreatePrimary with template L-1 of the endorsement key (TCG EK Credential Profile 2.5, B.3.3)', () => {
    const template = ['0001', '000b', '000300b2', '0020', '837197674484b3f81a90cc8d46a5d724fd52d76e06520b64f2a1da1b331469aa', '0006', '0080', '0043', '0010', '0800', '00000000', '0100', '00'.repeat(256)].join('');
    const session = ['00000009', '40000009', '0000', '00', '0000'].join('');
    const body = ['4000000b', session, '0004', '0000', '0000', (template.length / 2).toString(16).padStart(4, '0'), template, '0000', '00000000'].join('');
    expect(hex(createEndorsementKey())).toBe(`8002${(10 + body.length / 2).toString(16).padStart(8, '0')}00000131${body}`);
  });
});

describe('responses of the TPM', () => {
  const response = (code: number, handle: number, publicArea: readonly number[], tail: readonly number[] = []): Uint8Array => {
    const bytes = new Uint8Array(20 + publicArea.length + tail.length);
    const view = new DataView(bytes.buffer);
    view.setUint32(6, code);
    view.setUint32(10, handle);
    view.setUint16(18, publicArea.length);
    bytes.set([...publicArea, ...tail], 20);
    return bytes;
  };
  it('have their code behind tag and size', () => {
    expect(responseCode(response(0x101, 0, []))).toBe(0x101);
    expect([responseCode(new Uint8Array(9)), responseCode(new Uint8Array(10)), responseCode(new Uint8Array(0))]).toEqual([-1, 0, -1]);
    const inside = new Uint8Array(16);
    inside[15] = 9;
    expect(responseCode(inside.subarray(6))).toBe(9);
  });
  it('give handle and public area', () => {
    expect(createdKey(response(0, 0x8000_0001, [1, 2, 3], [4]))).toEqual({ handle: 0x8000_0001, publicArea: Uint8Array.of(1, 2, 3) });
    expect(createdKey(response(0, 0x8000_0001, []))).toEqual({ handle: 0x8000_0001, publicArea: new Uint8Array(0) });
    expect(createdKey(response(0, 5, [1, 2, 3]).subarray(0, 22))).toBe(null);
    expect(createdKey(response(0, 5, [1, 2, 3]))).not.toBe(null);
    expect(createdKey(response(0x100, 5, [1, 2, 3]))).toBe(null);
    expect(createdKey(new Uint8Array(19))).toBe(null);
    expect(createdKey(new Uint8Array(20))).toEqual({ handle: 0, publicArea: new Uint8Array(0) });
    expect(createdKey(new Uint8Array(0))).toBe(null);
    const inside = new Uint8Array(40);
    inside.set(response(0, 0x8000_0002, [9]), 7);
    expect(createdKey(inside.subarray(7, 28))).toEqual({ handle: 0x8000_0002, publicArea: Uint8Array.of(9) });
  });
});

describe('manifests', () => {
  const key = Uint8Array.of(1, 2, 3, 4, 5);
  it('the vTPM has one where there is a key (SVSM 1.00, services manifest)', () => {
    expect(services(new Uint8Array(0))).toEqual([]);
    expect(services(key)).toEqual([{ guid: SvsmService.Vtpm, data: key }]);
    expect([manifestOf(services(key), guidBytes(SvsmService.Vtpm)), manifestOf(services(key), new Uint8Array(16)), manifestOf([], guidBytes(SvsmService.Vtpm))]).toEqual([key, null, null]);
  });
  it('lie behind the table, one after the other', () => {
    const word = (n: number): number[] => [n & 0xff, n >> 8, 0, 0];
    const head = [...guidBytes(SVSM_SERVICES_MANIFEST)];
    expect([...servicesManifest([])]).toEqual([...head, ...word(24), ...word(0)]);
    const two = [{ guid: SvsmService.Vtpm, data: key }, { guid: SvsmService.UefiMm, data: Uint8Array.of(6, 7) }];
    expect([...servicesManifest(two)]).toEqual([
      ...head, ...word(24 + 48 + 7), ...word(2),
      ...guidBytes(SvsmService.Vtpm), ...word(72), ...word(5),
      ...guidBytes(SvsmService.UefiMm), ...word(77), ...word(2),
      ...key, 6, 7,
    ]);
  });
});
