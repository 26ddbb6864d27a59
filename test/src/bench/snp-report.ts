import { AEAD_AES_256_GCM, FirmwareStatus, MESSAGE_AAD, MESSAGE_HEADER_VERSION, MessageHeader, MessageType, ReportRequest } from '@vmplanes/abi-sev-snp';
import { HostError } from '@vmplanes/engine';
import { GuestState, SecurityProcessor } from '@vmplanes/personality-sev-snp-vmpl';
import { createCipheriv } from 'node:crypto';
import { sample } from './measure.ts';
import type { BenchRow } from './rows.ts';

/** The first message of a guest: asks for a report under the key of VMPL0. */
function request(key: Uint8Array): Uint8Array {
  const page = new Uint8Array(4096);
  MessageHeader.write(new DataView(page.buffer), 0, {
    authTag: new Uint8Array(32), sequence: 1n, algo: AEAD_AES_256_GCM, headerVersion: MESSAGE_HEADER_VERSION, headerSize: MessageHeader.size, type: MessageType.ReportRequest, version: 1, size: ReportRequest.size, vmpck: 0,
  });
  const iv = new Uint8Array(12);
  iv[0] = 1;
  const cipher = createCipheriv('aes-256-gcm', key, iv).setAAD(page.subarray(MESSAGE_AAD.start, MESSAGE_AAD.end));
  page.set(cipher.update(new Uint8Array(ReportRequest.size)), MessageHeader.size);
  cipher.final();
  page.set(cipher.getAuthTag(), 0);
  return page;
}

const report = (): number => {
  const platform = { seed: new Uint8Array(48), signing: 'vcek', tcb: { fmc: 0, bootLoader: 1, tee: 1, snp: 1, microcode: 1 }, family: 0x19, model: 1, stepping: 1 } as const;
  const psp = new SecurityProcessor(platform, { reportVersion: 3, platformInfo: 0n, mitVector: 0n, policy: 0x30000n, hostData: new Uint8Array(32) }, (_leaf, _subleaf, out) => out.fill(0));
  psp.guest.state = GuestState.Running;
  const asked = request(psp.keys[0]!);
  const answered = new Uint8Array(4096);
  let status: number = FirmwareStatus.Success;
  const result = sample(20, (n) => {
    for (let i = 0; i < n; i++) {
      // The same message each time: the guest's part is not measured.
      psp.guest.sequences[0] = 0n;
      status |= psp.message(asked, answered);
    }
  });
  if (status !== FirmwareStatus.Success) throw new HostError('Internal', `bench: the report was refused with ${status}`);
  return result;
};

/** The rows of the security processor. */
export const reportRows: readonly BenchRow[] = [{ id: 'snp.report', about: 'a guest message for an attestation report: opened, report made and signed, answer sealed', run: report }];
