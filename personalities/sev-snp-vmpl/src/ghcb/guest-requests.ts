import { GhcbReason, GuestRequestError, MessageHeader, MessageType } from '@vmplanes/abi-sev-snp';
import { AccessResult, PAGE_SIZE, Right } from '@vmplanes/engine';
import { type GhcbFrame, Word } from './frame.ts';
import { type GhcbHost, pageOf } from './host.ts';

/** Bytes of a certificate table without certificates: one entry of zeros. @spec Linux arch/x86/kvm/svm/sev.c (empty_certs_table) */
const EMPTY_TABLE = new Uint8Array(24);

/** Messages of the guest to the security processor, which the host carries without reading them. @spec GHCB 4.1.7, 4.1.8; Linux arch/x86/kvm/svm/sev.c (snp_handle_guest_req) */
export class GuestRequestEvents {
  readonly #request = new Uint8Array(PAGE_SIZE);
  readonly #response = new Uint8Array(PAGE_SIZE);

  constructor(readonly host: GhcbHost) {}

  /** @param extended - certificates may be asked for, too. */
  serve(frame: GhcbFrame, extended: boolean): void {
    const { access } = this.host.snp.machine.memory;
    const { subject, info1: request, info2: response } = frame;
    if (access.read(subject, request, this.#request, 0, PAGE_SIZE) !== AccessResult.Ok || access.check(subject, response, PAGE_SIZE, Right.Write) !== AccessResult.Ok) return frame.fail(GhcbReason.InvalidInput);
    if (access.preempt !== null) access.preempt('fetched');
    const wantsCertificates = extended && this.#request[MessageHeader.at.type] === MessageType.ReportRequest;
    if (wantsCertificates && !this.#hasRoom(frame)) return;
    this.#response.fill(0);
    const firmwareError = this.host.snp.chapters.requests.message(this.#request, this.#response);
    // A response that its owner has no page for any more is lost, as is every write to a page that is gone.
    access.write(subject, response, this.#response, 0, PAGE_SIZE);
    if (wantsCertificates) this.#giveCertificates(frame);
    frame.succeed(firmwareError >>> 0, GuestRequestError.None);
  }

  /** Whether the table of certificates can be given; otherwise the result says why. Nothing was sent then, and the same message may come again. */
  #hasRoom(frame: GhcbFrame): boolean {
    const gpa = frame.register(Word.rax);
    const pages = frame.register(Word.rbx);
    if (!frame.has('rax') || !frame.has('rbx') || pageOf(gpa) < 0) {
      frame.fail(GhcbReason.InvalidInput);
      return false;
    }
    const { length } = this.host.snp.chapters.requests.certificates;
    const needed = Math.ceil(length / PAGE_SIZE);
    if (pages < needed) {
      frame.setRegister(Word.rbx, needed, 0);
      frame.succeed(0, GuestRequestError.InvalidLength);
      return false;
    }
    const bytes = length === 0 ? (pages === 0 ? 0 : EMPTY_TABLE.length) : length;
    if (this.host.snp.machine.memory.access.check(frame.subject, gpa, bytes, Right.Write) === AccessResult.Ok) return true;
    frame.fail(GhcbReason.InvalidInput);
    return false;
  }

  #giveCertificates(frame: GhcbFrame): void {
    const { certificates } = this.host.snp.chapters.requests;
    const table = certificates.length === 0 ? EMPTY_TABLE : certificates;
    if (certificates.length === 0 && frame.register(Word.rbx) === 0) return;
    this.host.snp.machine.memory.access.write(frame.subject, frame.register(Word.rax), table, 0, table.length);
  }
}
