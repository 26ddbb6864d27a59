import { bits, bytes, struct, u16, u32, u64, u8 } from '@vmplanes/binary';
import { simple } from '../call.ts';
import { HV_MESSAGE_PAYLOAD_BYTES, HvMessage } from '../messages.ts';
import { Source } from '../sources.ts';

/** A connection. @spec TLFS HV_CONNECTION_ID */
export const HvConnectionId = bits('HvConnectionId', 'TLFS HV_CONNECTION_ID', 32, { id: [0, 24] });
/** Input of HvCallPostMessage. @spec TLFS HvCallPostMessage */
export const HvInputPostMessage = struct('HvInputPostMessage', 'TLFS HvCallPostMessage', 256, {
  connectionId: [0, u32, 'HvConnectionId'],
  reserved: [4, u32],
  messageType: [8, u32, 'bit 31 clear'],
  payloadSize: [12, u32, 'bytes, at most 240'],
  payload: [16, bytes(HV_MESSAGE_PAYLOAD_BYTES)],
});
/** Sends a message to a port. */
export const PostMessage = simple('HvCallPostMessage', {
  code: 0x005c, spec: 'TLFS HvCallPostMessage', privileges: ['postMessages'], header: HvInputPostMessage,
  statuses: ['AccessDenied', 'InvalidConnectionId', 'InvalidPortId', 'InvalidParameter', 'InsufficientBuffers', 'InvalidSynicState', 'InvalidVpIndex'],
});

/** Input of HvCallSignalEvent. @spec TLFS HvCallSignalEvent */
export const HvInputSignalEvent = struct('HvInputSignalEvent', 'TLFS HvCallSignalEvent', 8, { connectionId: [0, u32, 'HvConnectionId'], flagNumber: [4, u16, 'relative to the port'], reserved: [6, u16] });
/** Sets an event flag of a port. */
export const SignalEvent = simple('HvCallSignalEvent', {
  code: 0x005d, spec: 'TLFS HvCallSignalEvent', privileges: ['signalEvents'], fast: 'registers', header: HvInputSignalEvent,
  statuses: ['AccessDenied', 'InvalidConnectionId', 'InvalidParameter', 'InvalidPortId', 'InvalidSynicState', 'InvalidVpIndex'],
});

/** Input of HvCallSignalEventDirect. @spec openvmm vm/hv1/hvdef/src/lib.rs */
export const HvInputSignalEventDirect = struct('HvInputSignalEventDirect', Source.Hvdef, 16, { targetPartition: [0, u64], targetVp: [8, u32], targetVtl: [12, u8], targetSint: [13, u8], flagNumber: [14, u16] });
/** Output of HvCallSignalEventDirect. @spec openvmm vm/hv1/hvdef/src/lib.rs */
export const HvOutputSignalEventDirect = struct('HvOutputSignalEventDirect', Source.Hvdef, 8, { newlySignaled: [0, u8], reserved: [1, bytes(7)] });
/** Sets an event flag of a VP's SINT. */
export const SignalEventDirect = simple('HvCallSignalEventDirect', { code: 0x00c0, spec: Source.Hvdef, privileges: ['accessVsm'], header: HvInputSignalEventDirect, output: HvOutputSignalEventDirect });
/** Input of HvCallPostMessageDirect. @spec openvmm vm/hv1/hvdef/src/lib.rs */
export const HvInputPostMessageDirect = struct('HvInputPostMessageDirect', Source.Hvdef, 280, {
  partitionId: [0, u64],
  vpIndex: [8, u32],
  vtl: [12, u8],
  reserved0: [13, bytes(3)],
  sint: [16, u8],
  reserved1: [17, bytes(3)],
  message: [20, HvMessage],
  reserved2: [276, u32],
});
/** Puts a message into a VP's slot. */
export const PostMessageDirect = simple('HvCallPostMessageDirect', { code: 0x00c1, spec: Source.Hvdef, privileges: ['accessVsm'], header: HvInputPostMessageDirect });
