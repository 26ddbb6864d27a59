import { type HvCall, HvConnectionId, HvMessage, HvStatus, HV_MESSAGE_PAYLOAD_BYTES } from '@vmplanes/abi-hyperv';
import { type PlaneContext } from '@vmplanes/engine';
import type { SimpleHandler } from './dispatcher/bind.ts';
import type { CallFrame } from './dispatcher/call-frame.ts';
import type { HvPort } from './options.ts';

const { Success, AccessDenied, InvalidParameter, InvalidPortId, InvalidConnectionId, InvalidVpIndex, InvalidSynicState, InsufficientBuffers } = HvStatus;
const MESSAGE_BYTES = HvMessage.size;
/** Types with this bit are the hypervisor's own. */
const HYPERVISOR_TYPE = 0x8000_0000;

/** The port behind a connection, or a status. @spec TLFS Inter-Partition Communication, ports and connections */
const portOf = (call: CallFrame, connectionId: number, kind: HvPort['kind']): HvPort | number => {
  if ((connectionId & HvConnectionId.reservedMask) !== 0) return InvalidParameter;
  const port = call.hv.options.ports.find((p) => p.connectionId === connectionId);
  if (port === undefined) return InvalidConnectionId;
  if (call.vtl < port.minConnectionVtl) return AccessDenied;
  return port.kind === kind ? port : InvalidPortId;
};

/** The VTL of a VP that a port delivers to, or a status. */
const receiverOf = (call: CallFrame, port: HvPort): PlaneContext | number => call.hv.machine.vps[port.vp]?.planes[port.vtl] ?? InvalidVpIndex;

/** A message to a port: to the message slot of its SINT, or a buffer behind it. @spec TLFS HvCallPostMessage */
export const postMessage: SimpleHandler<typeof HvCall.PostMessage> = (call, input) => {
  const port = portOf(call, input.connectionId, 'message');
  if (typeof port === 'number') return port;
  if (input.messageType >= HYPERVISOR_TYPE || input.messageType === 0 || input.payloadSize > HV_MESSAGE_PAYLOAD_BYTES) return InvalidParameter;
  const receiver = receiverOf(call, port);
  if (typeof receiver === 'number') return receiver;
  const message = new Uint8Array(MESSAGE_BYTES);
  const view = new DataView(message.buffer);
  view.setUint32(HvMessage.at.header, input.messageType, true);
  message[HvMessage.at.header + 4] = input.payloadSize;
  // The origin of a message of a port is the port.
  view.setUint32(HvMessage.at.header + 8, port.connectionId, true);
  message.set(input.bytes.subarray(input.payloadAt, input.payloadAt + input.payloadSize), HvMessage.at.payload);
  switch (call.hv.chapters.synic.post(receiver, port.sint, message, true)) {
    case 'unavailable':
      return InvalidSynicState;
    case 'full':
      return InsufficientBuffers;
    default:
      return Success;
  }
};

/** An event flag of a port. @spec TLFS HvCallSignalEvent */
export const signalEvent: SimpleHandler<typeof HvCall.SignalEvent> = (call, input) => {
  const port = portOf(call, input.connectionId, 'event');
  if (typeof port === 'number') return port;
  if (input.reserved !== 0 || input.flagNumber >= port.flagCount) return InvalidParameter;
  const receiver = receiverOf(call, port);
  return typeof receiver === 'number' ? receiver : call.hv.chapters.synic.signal(receiver, port.sint, port.baseFlag + input.flagNumber);
};
